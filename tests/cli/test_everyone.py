"""The command `logout-everyone`."""

import json
import signal
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from fastapi_users_knox import KnoxSettings, TokenRevoked
from tests.cli import application
from tests.cli.place import Place, start_program
from tests.models import User
from tests.servers import PATIENCE

WEB = KnoxSettings(audience="web")
HOUR = timedelta(hours=1)
APP = ["--app", "tests.cli.application:open_strategy"]
APPS = {"--database": APP, "--redis": ["--app", "tests.cli.application:open_capped_on_redis"]}


@pytest.fixture
def in_app(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return the tokens of the test's application, which has the listener of the test."""
    monkeypatch.setenv(application.DATABASE, sqlite.options[1])
    monkeypatch.setattr(application, "SETTINGS", KnoxSettings())
    return sqlite


async def two_users(place: Place) -> tuple[User, User]:
    """Store two users, in the order in which they are visited."""
    users = [await place.create_user() for _ in range(2)]
    first, second = sorted(users, key=lambda user: user.id)
    return first, second


async def test_everyone_is_logged_out(place: Place) -> None:
    """`logout-everyone` revokes all sessions of all users, in every audience, but no tokens that are issued later."""
    users = [await place.create_user() for _ in range(3)]
    tokens = [await place.log_in(user, token_ttl=None) for user in users for _ in range(2)]
    elsewhere = await place.log_in(users[0], settings=WEB)

    document = await place.ask("logout-everyone", "--yes")
    later = await place.log_in(users[0])

    assert document == {"users": 3, "revoked": 7}
    assert not any([await place.accepts(token) for token in tokens])
    assert not await place.accepts(elsewhere, WEB)
    assert await place.accepts(later)


async def test_a_token_of_a_server_whose_clock_is_ahead_is_revoked(place: Place) -> None:
    """A token that was issued before, by a server whose clock is ahead, is revoked too."""
    token = await place.log_in(await place.create_user(), ago=-HOUR)

    await place.run("logout-everyone", "--yes")

    assert not await place.accepts(token)


async def test_api_tokens_may_stay(place: Place) -> None:
    """With `--keep-api-tokens`, tokens with scopes stay, and users who have only such tokens are not counted."""
    jane, other = await place.create_user(), await place.create_user()
    session, api_token = await place.log_in(jane), await place.log_in(jane, scopes={"read"})
    await place.log_in(other, scopes={"read"})

    document = await place.ask("logout-everyone", "--yes", "--keep-api-tokens")

    assert document == {"users": 1, "revoked": 1}
    assert [await place.accepts(token) for token in (session, api_token)] == [False, True]


@pytest.mark.parametrize(("answer", "code", "is_live"), [("y\n", 0, False), ("no\n", 1, True), ("", 1, True)])
async def test_the_program_asks(sqlite: Place, answer: str, code: int, *, is_live: bool) -> None:
    """Without `--yes`, the program asks on standard error, and only yes lets it begin."""
    token = await sqlite.log_in(await sqlite.create_user())

    result = await sqlite.run("logout-everyone", typed=answer, code=code)

    assert result.stderr.startswith("Log out everyone? [y/N] ")
    assert ("Nobody is logged out." in result.stdout) == is_live
    assert await sqlite.accepts(token) == is_live


async def test_a_login_that_is_stored_late_is_revoked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that began before, and is stored after its user was visited, is revoked by another pass."""
    users = {user.id: user for user in [await place.create_user() for _ in range(2)]}
    tokens = [await place.log_in(user) for user in users.values()]

    async def log_in_late(event: TokenRevoked[Any]) -> None:
        if len(tokens) < 3:
            async with place.in_other_loop() as other:
                tokens.append(await other.log_in(users[event.record.user_id], ago=HOUR))

    monkeypatch.setenv(application.DATABASE, place.options[1])
    monkeypatch.setenv(application.REDIS, place.options[1])
    monkeypatch.setattr(application, "listeners", [log_in_late])
    result = await place.run_with(APPS[place.options[0]], "logout-everyone", "--yes")

    assert result.stdout == "3 sessions of 3 users are revoked. No token is left that was issued before.\n"
    assert not any([await place.accepts(token) for token in tokens])


async def test_a_rotated_token_is_revoked(in_app: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is rotated while the command runs is revoked, and a login after the visit stays."""
    first, second = await two_users(in_app)
    await in_app.log_in(first)
    token = await in_app.log_in(second)
    rotated, later = [], []

    async def rotate(event: TokenRevoked[Any]) -> None:
        if event.user_id == first.id:
            async with in_app.in_other_loop() as other, other.strategy() as strategy:
                rotated.append(await strategy.rotate_token(token, second))
                later.append(await other.log_in(first, ago=-HOUR))

    monkeypatch.setattr(application, "listeners", [rotate])
    await in_app.run_with(APP, "logout-everyone", "--yes")

    assert [await in_app.accepts(each) for each in (*rotated, *later)] == [False, True]


async def test_a_clock_that_is_behind_is_reported(in_app: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """If tokens from before do not stop appearing, the program gives up and says why."""
    jane = await in_app.create_user()
    await in_app.log_in(jane)

    async def log_in_again(_event: TokenRevoked[Any]) -> None:
        async with in_app.in_other_loop() as other:
            await other.log_in(jane, ago=HOUR)

    monkeypatch.setattr(application, "listeners", [log_in_again])
    result = await in_app.run_with(APP, "logout-everyone", "--yes", code=1)

    assert "the clock of a server is behind" in result.stderr
    assert "11 sessions of 11 users are revoked." in result.stderr


async def test_a_failure_says_what_was_done(in_app: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store fails in between, the program says how many users it has logged out."""
    for user in await two_users(in_app):
        await in_app.log_in(user)

    async def lose_table(_event: TokenRevoked[Any]) -> None:
        async with in_app.in_other_loop() as other, other.open_app() as app:
            await app.session.execute(text("DROP TABLE knox_token"))
            await app.session.commit()

    monkeypatch.setattr(application, "listeners", [lose_table])
    result = await in_app.run_with(APP, "logout-everyone", "--yes", "--json", code=3)

    document = json.loads(result.stdout)
    assert document == {"users": 1, "revoked": 1, "error": "the token store is unavailable; the log says why"}
    assert "1 sessions of 1 users are revoked." in result.stderr


async def test_ctrl_c_stops_after_a_user(in_app: Place) -> None:
    """Ctrl-C lets the running user be finished, and the program says how many users it has logged out."""
    users = await two_users(in_app)
    tokens = [await in_app.log_in(user) for user in users]
    program = ["--app", "tests.cli.application:open_with_slow_listener", "logout-everyone", "--yes", "--json"]

    with start_program(*program) as process:
        assert process.stderr
        assert process.stdin
        assert process.stderr.readline() == "revoked\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate("go on\n", timeout=PATIENCE)

    assert (process.returncode, errors) == (130, "Interrupted. 1 sessions of 1 users are revoked.\n")
    assert json.loads(output) == {"users": 1, "revoked": 1, "interrupted": True}
    assert [await in_app.accepts(token) for token in tokens] == [False, True]


async def test_an_unknown_form_of_ids_is_reported(redis: Place) -> None:
    """If the ids in Redis have another form than the options say, nothing is skipped silently."""
    async with Redis.from_url(redis.options[1]) as client:
        await client.zadd("knox:{ab}:user:17", {"digest": 1})

    result = await redis.run("logout-everyone", "--yes", code=2)

    assert "a key of Redis has the user id 17, which parse_id refuses" in result.stderr
