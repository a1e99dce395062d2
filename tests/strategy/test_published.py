"""The events of each call: each one is published once, after the write, with the client's description."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import (
    ClientInfo,
    CredentialsChanged,
    IssuedToken,
    KnoxSettings,
    KnoxStrategy,
    TokenLimitHit,
    TokenLimitReached,
)
from tests.models import store_on
from tests.strategies import HOUR, MILLISECOND, NOW, SECOND, Knox, Strategy, change_user, request, stored

pytestmark = pytest.mark.unmeasured

SETTINGS = KnoxSettings(token_ttl=HOUR, auto_refresh=True, token_limit_per_user=2, limit_policy="evict_oldest")
KEYED = SETTINGS.model_copy(update={"digest_keys": (SecretStr("k" * 32),), "accept_unkeyed_until": NOW + HOUR})
REVOKED = "TokenRevoked"

Path = Callable[[Knox, Strategy, IssuedToken], Awaitable[Any]]


def bearing(token: str) -> tuple[str, str]:
    """Return the header with which an API client presents a token."""
    return ("Authorization", f"Bearer {token}")


async def read(knox: Knox, strategy: Strategy, token: str, *, after: timedelta) -> None:
    """Read the token after some time."""
    knox.clock.now += after
    await strategy.read_token(token, knox.user_manager)


async def log_in_presenting(knox: Knox, _strategy: Strategy, token: IssuedToken) -> None:
    """Log in again and present the token in a header."""
    await knox.strategy(SETTINGS, request=request(bearing(token))).write_token(knox.user)


async def log_in_after(knox: Knox, strategy: Strategy, _token: IssuedToken, *, after: timedelta) -> None:
    """Log in again after some time."""
    knox.clock.now += after
    await strategy.write_token(knox.user)


async def log_in_twice(knox: Knox, strategy: Strategy, token: IssuedToken) -> None:
    """Log in twice more, which is over the limit."""
    for _ in range(2):
        await log_in_after(knox, strategy, token, after=SECOND)


PATHS: dict[str, tuple[Path, list[tuple[str, ...]]]] = {
    "log in": (lambda knox, strategy, _: strategy.write_token(knox.user), [("TokenIssued",)]),
    "log in, presenting": (log_in_presenting, [(REVOKED, "replaced"), ("TokenIssued",)]),
    "log in, finding expired": (
        lambda knox, strategy, token: log_in_after(knox, strategy, token, after=HOUR),
        [("TokenExpired",), ("TokenIssued",)],
    ),
    "log in, evicting": (log_in_twice, [("TokenIssued",), (REVOKED, "evicted"), ("TokenIssued",)]),
    "read": (lambda knox, strategy, token: read(knox, strategy, token, after=SECOND), []),
    "refresh": (lambda knox, strategy, token: read(knox, strategy, token, after=HOUR / 2), [("TokenRefreshed",)]),
    "read expired": (lambda knox, strategy, token: read(knox, strategy, token, after=HOUR), [("TokenExpired",)]),
    "re-key": (
        lambda knox, _, token: read(
            knox, knox.strategy(KEYED.model_copy(update={"auto_refresh": False})), token, after=HOUR / 2
        ),
        [],
    ),
    "rotate": (lambda knox, strategy, token: strategy.rotate_token(token, knox.user), [("TokenRotated",)]),
    "re-authenticate": (
        lambda knox, strategy, token: strategy.reauthenticate(token, knox.user),
        [("TokenReauthenticated",)],
    ),
    "log out": (lambda knox, strategy, token: strategy.destroy_token(token, knox.user), [(REVOKED, "logout")]),
    "revoke": (
        lambda knox, strategy, token: strategy.revoke(knox.user, token.record.id),
        [(REVOKED, "session_revoked")],
    ),
    "log out all": (lambda knox, strategy, _: strategy.logout_all(knox.user), [(REVOKED, "logout_all")]),
    "log out others, of which there are none": (
        lambda knox, strategy, token: strategy.logout_all(knox.user, keep=token),
        [],
    ),
    "purge": (lambda _knox, strategy, _: strategy.purge(), []),
    "list": (lambda knox, strategy, _: strategy.list_records(knox.user), []),
}


@pytest.mark.parametrize(("path", "published"), PATHS.values(), ids=PATHS.keys())
async def test_each_path_publishes_its_events_once(knox: Knox, path: Path, published: list[tuple[str, ...]]) -> None:
    """Each change publishes its event once, and calls without a change publish nothing."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    knox.published()

    await path(knox, knox.strategy(SETTINGS), token)

    assert knox.published() == published


async def test_each_revoked_session_publishes_an_event(knox: Knox) -> None:
    """A call that revokes several sessions publishes one event for each."""
    kept, *revoked = [await knox.strategy().issue(knox.user) for _ in range(3)]
    knox.events.clear()

    await knox.strategy().logout_all(knox.user, keep=kept)

    records = [event.record for event in knox.events if hasattr(event, "record")]
    assert {record.id for record in records} == {token.record.id for token in revoked}
    assert knox.published() == [(REVOKED, "logout_others")] * 2


async def test_an_event_describes_its_request(knox: Knox) -> None:
    """Each event holds the user's id, the client's description, the record and the request."""
    login = request(("User-Agent", "curl/8"))

    token = await knox.strategy(request=login).issue(knox.user)

    [event] = knox.events
    assert event.user_id == knox.user.id
    assert event.client == ClientInfo(user_agent="curl/8", ip_address="192.0.2.1")
    assert event.request is login
    assert getattr(event, "record", None) == token.record


async def test_no_event_s_repr_holds_a_token(knox: Knox) -> None:
    """The repr of an event holds no token, so events can be logged."""
    old = await knox.strategy().issue(knox.user)

    new = await knox.strategy(request=request(bearing(old))).issue(knox.user)

    assert old not in repr(knox.events)
    assert new not in repr(knox.events)


async def test_the_limit_publishes_an_event(knox: Knox) -> None:
    """A login refused because of the limit publishes `TokenLimitHit` with the limit."""
    settings = KnoxSettings(token_limit_per_user=1)
    await knox.strategy(settings).issue(knox.user)
    knox.events.clear()

    with pytest.raises(TokenLimitReached):
        await knox.strategy(settings).issue(knox.user)

    assert knox.events == [TokenLimitHit(user_id=knox.user.id, client=ClientInfo(), limit=1)]


async def test_a_login_that_fails_publishes_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """A login that fails because the user has changed publishes no event."""
    await change_user(engine, knox.user, hashed_password="new")

    with pytest.raises(CredentialsChanged):
        await knox.strategy().issue(knox.user)

    assert knox.published() == []


@pytest.mark.parametrize("path", [path for path, published in PATHS.values() if published])
async def test_events_follow_the_write(knox: Knox, engine: AsyncEngine, path: Path) -> None:
    """When a listener is called, the change is already committed."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    seen: list[object] = []

    async def look(_event: object) -> None:
        seen.append(await stored(engine))

    knox.listeners.append(look)
    await path(knox, knox.strategy(SETTINGS), token)

    assert seen[-1] == await stored(engine)


async def test_a_listener_that_raises_changes_nothing(knox: Knox, caplog: pytest.LogCaptureFixture) -> None:
    """If a listener raises, the login succeeds, the other listeners run, and the log shows the error but no token."""

    def broken(_event: object) -> None:
        raise ZeroDivisionError

    received: list[object] = []
    knox.listeners += [broken, received.append]

    token = await knox.strategy().issue(knox.user)

    assert await knox.accepts(token)
    assert received == knox.events
    assert "ZeroDivisionError" in caplog.text
    assert token not in caplog.text


async def test_describing_the_client_fails_no_read(knox: Knox) -> None:
    """A `describe_client` that raises does not fail the read that refreshes a token."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    knox.clock.now += HOUR / 2

    def describe(_request: object) -> ClientInfo:
        raise ZeroDivisionError

    strategy: Strategy = KnoxStrategy(
        store_on(knox.session),
        SETTINGS,
        request=request(),
        listeners=[knox.events.append],
        describe_client=describe,
        clock=knox.clock,
    )

    assert await strategy.read_token(token, knox.user_manager) is knox.user


async def test_the_application_may_describe_clients(knox: Knox) -> None:
    """The record holds what the application's `describe_client` returns, cut to the columns' lengths."""
    strategy: Strategy = KnoxStrategy(
        store_on(knox.session),
        request=request(),
        describe_client=lambda _: ClientInfo(name="n" * 300, device_id="d"),
        clock=knox.clock,
    )

    token = await strategy.issue(knox.user)

    assert (token.record.name, token.record.device_id, token.record.ip_address) == ("n" * 128, "d", None)


async def test_a_shared_strategy_keeps_nothing(knox: Knox) -> None:
    """A strategy keeps no state between calls and works without a request."""
    strategy = knox.strategy(SETTINGS)
    before = dict(vars(strategy))

    token = await strategy.issue(knox.user)
    await strategy.read_token(token, knox.user_manager)
    await strategy.rotate_token(token, knox.user)
    await strategy.logout_all(knox.user)

    assert vars(strategy) == before
    assert {event.request for event in knox.events} == {None}
    assert {event.client for event in knox.events} == {ClientInfo()}


async def test_an_expiry_publishes_one_event(knox: Knox) -> None:
    """An expired token that is presented several times publishes one `TokenExpired`."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    knox.published()

    for _ in range(3):
        await read(knox, knox.strategy(SETTINGS), token, after=HOUR + MILLISECOND)

    assert knox.published() == [("TokenExpired",)]
