"""The program: its options and its commands."""

from functools import partial
from typing import Annotated
from uuid import UUID

import typer

from fastapi_users_knox.cli.checks import check_setup
from fastapi_users_knox.cli.everyone import is_confirmed, leave_logged_in, log_out_everyone
from fastapi_users_knox.cli.purging import purge_expired
from fastapi_users_knox.cli.running import run
from fastapi_users_knox.cli.sessions import list_sessions, log_out_user, revoke_session
from fastapi_users_knox.cli.statistics import show_statistics
from fastapi_users_knox.cli.target import IdType, Options

__all__ = ["main", "program"]

_EPILOG = (
    "Exit codes: 0 done; 1 not found, or findings; 2 wrong usage or set-up; 3 the token store is unavailable; "
    "130 interrupted."
)
_ENV = "FASTAPI_USERS_KNOX_{}".format

program: typer.Typer = typer.Typer(
    name="fastapi-users-knox",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
)

User = Annotated[str, typer.Argument(metavar="USER", help="The user's id or e-mail address.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

App = Annotated[
    str | None,
    typer.Option(
        envvar=_ENV("APP"),
        metavar="MODULE:FUNCTION",
        help="An async context manager function of your application that yields a KnoxStrategy. Its events are "
        "published, and its settings and its store apply.",
    ),
]
Database = Annotated[
    str | None, typer.Option(envvar=_ENV("DATABASE"), metavar="URL", help="An asynchronous URL of SQLAlchemy.")
]
Table = Annotated[
    str | None,
    typer.Option(envvar=_ENV("TABLE"), metavar="MODULE:CLASS", help="The mapped class of the tokens in --database."),
]
Redis = Annotated[str | None, typer.Option(envvar=_ENV("REDIS"), metavar="URL", help="The URL of Redis.")]
RedisCluster = Annotated[
    bool, typer.Option("--redis-cluster", envvar=_ENV("REDIS_CLUSTER"), help="--redis is a node of a cluster.")
]
KeyPrefix = Annotated[str, typer.Option(envvar=_ENV("KEY_PREFIX"), help="The key_prefix of the store in --redis.")]
Users = Annotated[str, typer.Option(envvar=_ENV("USERS"), help="The users= of the store in --redis.")]
IdTypeName = Annotated[IdType, typer.Option(envvar=_ENV("ID_TYPE"), help="The type of the users' ids in --redis.")]
Audience = Annotated[
    str | None,
    typer.Option(envvar=_ENV("AUDIENCE"), help="The audience of the sessions, with --database or --redis."),
]
KeepApiTokens = Annotated[bool, typer.Option("--keep-api-tokens", help="Keep the tokens with scopes.")]


@program.callback()
def options(
    context: typer.Context,
    *,
    app: App = None,
    database: Database = None,
    table: Table = None,
    redis: Redis = None,
    redis_cluster: RedisCluster = False,
    key_prefix: KeyPrefix = "knox:",
    users: Users = "",
    id_type: IdTypeName = IdType.UUID,
    audience: Audience = None,
) -> None:
    """List and revoke sessions, delete expired tokens, and check a set-up of fastapi-users-knox.

    One of --app, --database and --redis says where the tokens are. These options come before the command.
    """
    context.obj = Options(
        app=app,
        database=database,
        table=table,
        redis=redis,
        redis_cluster=redis_cluster,
        key_prefix=key_prefix,
        users=users,
        id_type=id_type,
        audience=audience,
    )


@program.command(epilog=_EPILOG)
def sessions(context: typer.Context, user: User, *, json: Json = False) -> None:
    """List the live sessions of a user, newest first."""
    run(context, partial(list_sessions, user=user), as_json=json)


@program.command(epilog=_EPILOG)
def revoke(
    context: typer.Context,
    user: User,
    session_id: Annotated[UUID, typer.Argument(metavar="ID", help="The id of the session.")],
    *,
    json: Json = False,
) -> None:
    """Revoke one session of a user."""
    run(context, partial(revoke_session, user=user, session_id=session_id), as_json=json)


@program.command(epilog=_EPILOG)
def logout_all(
    context: typer.Context,
    user: User,
    *,
    keep_api_tokens: KeepApiTokens = False,
    json: Json = False,
) -> None:
    """Revoke all sessions of a user, of every audience."""
    run(context, partial(log_out_user, user=user, keep_api_tokens=keep_api_tokens), as_json=json)


@program.command(epilog=_EPILOG)
def purge(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the tokens.")] = False,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="Keep the tokens that expired less than this ago. A number with s, m, h, d or w, such as 7d.",
        ),
    ] = "0s",
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="How many tokens one transaction deletes.")] = 1000,
    json: Json = False,
) -> None:
    """Delete expired tokens, in batches, while the application runs.

    Each batch is a transaction of its own. Ctrl-C stops after the running batch.
    """
    run(
        context,
        partial(purge_expired, older_than=older_than, batch_size=batch_size, dry_run=dry_run),
        as_json=json,
    )


@program.command(epilog=_EPILOG)
def stats(
    context: typer.Context,
    *,
    top: Annotated[int, typer.Option(min=0, help="How many of the users with the most tokens to show.")] = 10,
    json: Json = False,
) -> None:
    """Count the live and expired tokens, by audience, age, last use and user.

    In SQL, the database counts them. In Redis, the program reads all records, a hundred users at a time.
    """
    run(context, partial(show_statistics, top=top), as_json=json)


@program.command(epilog=_EPILOG)
def logout_everyone(
    context: typer.Context,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_api_tokens: KeepApiTokens = False,
    json: Json = False,
) -> None:
    """Revoke all sessions of all users, of every audience.

    When the command has returned, no token is accepted that was issued before it began. It revokes the tokens of one
    user after the other, so this takes time. To refuse all of them at once, first deploy the setting not_before, which
    is the kill switch, and then run this command, so that you can remove the setting again.

    Ctrl-C stops after the running user, and the command can be run again.
    """
    command = partial(log_out_everyone, keep_api_tokens=keep_api_tokens)
    run(context, command if yes or is_confirmed("Log out everyone?") else leave_logged_in, as_json=json)


@program.command(epilog=_EPILOG)
def check(context: typer.Context, *, json: Json = False) -> None:
    """Check the set-up before you deploy it, and print each finding with its cure.

    In SQL: the table, its indexes, its foreign key, and the clock of the server. In Redis: persistence, eviction,
    replicas and clocks. With --app also the settings. The exit code is 1 if there is a problem.
    """
    run(context, check_setup, as_json=json)


def main() -> None:
    """Run the program."""
    program()
