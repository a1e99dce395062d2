"""The options that say where the tokens are, and the messages if they are wrong."""

import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastapi_users_knox import TokenRevoked
from tests.cli import application
from tests.cli.place import TABLE, Place, run_program

APP = "tests.cli.application:{}".format
USER = str(uuid.uuid4())
SQLITE = "sqlite+aiosqlite://"


@pytest.fixture
def in_app(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return the tokens of the test's application."""
    monkeypatch.setenv(application.DATABASE, sqlite.options[1])
    application.published.clear()
    application.open_transactions.clear()
    return sqlite


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "exactly one of --app (FASTAPI_USERS_KNOX_APP), --database"),
        (["--app", "a:b", "--redis", "redis://localhost"], "where the tokens are; not --app and --redis"),
        (["--database", SQLITE], "--database needs --table module:Class"),
        (["--database", SQLITE, "--table", "tests.models"], "--table must be module:name, not tests.models"),
        (["--database", SQLITE, "--table", "tests.nowhere:A"], "--table tests.nowhere:A cannot be imported: ModuleNot"),
        (
            ["--database", SQLITE, "--table", "tests.models:A"],
            "--table tests.models:A cannot be imported: AttributeErr",
        ),
        (["--database", SQLITE, "--table", "tests.models:User"], "table must be the mapped class of the token records"),
        (["--database", "sqlite://", "--table", TABLE], "the tokens cannot be opened: InvalidRequestError"),
        (["--redis", "http://localhost"], "the tokens cannot be opened: ValueError"),
        (["--redis", "redis://localhost", "--id-type", "int"], "users is missing: with a parse_id"),
        (["--app", APP("open_strategy"), "--audience", "web"], "--audience cannot be combined with --app"),
        (["--app", APP("open_nothing")], "--app must yield a KnoxStrategy, not str"),
        (["--app", APP("open_broken")], "the tokens cannot be opened: RuntimeError: the configuration is missing"),
        (["--app", "uuid:uuid4"], "must be a function with @asynccontextmanager"),
    ],
)
def test_wrong_options_are_explained(options: Sequence[str], message: str) -> None:
    """If the options do not lead to exactly one place, a message says why, and the exit code is 2."""
    result = run_program([*options, "sessions", USER], {})

    assert message in " ".join(result.stderr.split())
    assert (result.exit_code, result.stdout) == (2, "")


def test_an_error_is_a_document_too() -> None:
    """With `--json`, standard output has one JSON document even if the command fails."""
    result = run_program(["sessions", USER, "--json"], {})

    assert json.loads(result.stdout)["error"].startswith("exactly one of --app")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("jane", "Error: jane is not the id of a user.\n"),
        ("a@b", "Error: a@b is not the id of a user, and users can be found by e-mail address only with --app or "),
    ],
)
def test_ids_are_checked(user: str, message: str) -> None:
    """USER must have the form of an id, or be an address that can be looked up."""
    result = run_program(["--redis", "redis://localhost", "sessions", user], {})

    assert result.stderr.startswith(message)
    assert result.exit_code == 2


async def test_variables_replace_the_options(sqlite: Place) -> None:
    """Each option has an environment variable."""
    jane = await sqlite.create_user()
    _, url, _, table = sqlite.options
    variables = {"FASTAPI_USERS_KNOX_DATABASE": url, "FASTAPI_USERS_KNOX_TABLE": table}

    result = await sqlite.run_with([], "sessions", jane.id, environment=variables)

    assert f"0 live sessions of user {jane.id}" in result.stdout


def test_modules_are_found_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current directory is found, and raises its own errors as soon as it is imported."""
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('the settings are missing')")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    result = run_program(["--app", "broken_app:open_strategy", "sessions", USER], {})

    assert "--app broken_app:open_strategy cannot be imported: RuntimeError: the settings are missing" in result.stderr


async def test_the_events_of_the_application_are_published(in_app: Place) -> None:
    """With `--app`, the settings of the application apply, and its listeners get the events."""
    jane = await in_app.create_user()
    settings = application.SETTINGS
    token = await in_app.log_in(jane, settings=settings)
    options = ["--app", APP("open_strategy")]

    listed = await in_app.run_with(options, "sessions", jane.email)
    await in_app.run_with(options, "revoke", jane.email, token.record.id)

    assert str(token.record.id) in listed.stdout
    [event] = application.published
    assert isinstance(event, TokenRevoked)
    assert (event.record.id, event.reason) == (token.record.id, "admin")


async def test_the_user_database_of_the_application_is_used(
    in_app: Place, redis: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over Redis, the user database of the application's strategy finds users by id and address."""
    monkeypatch.setenv(application.REDIS, redis.options[1])
    jane = await in_app.create_user()
    options = ["--app", APP("open_on_redis")]

    known = await in_app.run_with(options, "sessions", jane.email)
    unknown = [await in_app.run_with(options, "sessions", user, code=1) for user in (USER, "nobody@example.org")]

    assert f"0 live sessions of user {jane.id}" in known.stdout
    assert [each.stderr for each in unknown] == [
        f"Error: there is no user {user}.\n" for user in (USER, "nobody@example.org")
    ]


async def test_other_stores_have_the_commands_of_their_verbs(in_app: Place) -> None:
    """Over a store of another package, the commands for one user work."""
    jane = await in_app.create_user()
    token = await in_app.log_in(jane)
    options = ["--app", APP("open_foreign")]

    listed = await in_app.run_with(options, "sessions", jane.id)
    empty = await in_app.run_with(options, "sessions", USER)
    await in_app.run_with(options, "logout-all", jane.id)

    assert str(token.record.id) in listed.stdout
    assert f"0 live sessions of user {USER}" in empty.stdout
    assert not await in_app.accepts(token)


async def test_users_that_cannot_be_seen_have_ids(in_app: Place) -> None:
    """If the store does not see the users, USER is an id, and no user is unknown."""
    listed = await in_app.run_with(["--app", APP("open_without_users")], "sessions", USER)
    refused = await in_app.run_with(["--app", APP("open_without_users")], "sessions", "a@b", code=2)

    assert f"0 live sessions of user {USER}" in listed.stdout
    assert "a@b is not the id of a user" in refused.stderr


async def test_the_transaction_of_the_application_stays_open(in_app: Place) -> None:
    """If the application has begun a transaction, the program does not commit it by reading."""
    result = await in_app.run_with(["--app", APP("open_begun")], "sessions", USER, code=1)

    assert result.stderr == f"Error: there is no user {USER}.\n"
    assert application.open_transactions == [True]


async def test_an_address_must_be_unique(sqlite: Place) -> None:
    """If several users have an address in different cases, the program asks for the id."""
    await sqlite.create_user(email="Jane@example.org")
    await sqlite.create_user(email="jane@example.org")

    result = await sqlite.run("sessions", "jane@example.org", code=2)

    assert result.stderr == "Error: several users have the address jane@example.org: pass the id.\n"


def test_the_help_says_how_the_program_ends() -> None:
    """The help of the program lists the commands, the options with their variables, and the exit codes."""
    result = run_program(["--help"], {"COLUMNS": "300"})

    for text in ("logout-all", "FASTAPI_USERS_KNOX_DATABASE", "3 the token store is unavailable"):
        assert text in result.stdout
