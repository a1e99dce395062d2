"""Login options: an application chooses them by the user and the request, and the settings apply to all others."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.requests import HTTPConnection

from fastapi_users_knox import GetLoginOptions, IssuedToken, KnoxSettings, LoginOptions, TokenLimitReached, TokenRecord
from fastapi_users_knox.records import LimitPolicy
from tests.backends import App, Backend
from tests.conftest import backend_of
from tests.models import User, create_user
from tests.strategies import DAY, DEFAULTS, HOUR, MINUTE, NOW, SECOND, request

REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
UNUSUAL = KnoxSettings(token_ttl=HOUR, token_limit_per_user=1, limit_policy="evict_oldest", token_prefix="acme_")
FROM_PHONE = request(("X-Device-Name", "Ada's phone"))


@pytest.fixture(params=["sqlite", "postgresql-asyncpg", "redis-7"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return a backend of each kind, with no users and no tokens."""
    backend = backend_of(request.param, request, tmp_path)
    await backend.empty()
    return backend


@pytest.fixture
async def app(backend: Backend) -> AsyncIterator[App]:
    """Return the session and the store of a request."""
    async with backend.serving() as open_app, open_app() as app:
        yield app


@pytest.fixture
async def ada(app: App) -> User:
    """Return a user."""
    return await create_user(app.session)


def always(**options: Any) -> GetLoginOptions:
    """Return a function that chooses the same options for everybody."""
    return lambda _user, _connection: LoginOptions(**options)


async def chosen_later(_user: User, _connection: HTTPConnection | None) -> LoginOptions:
    """Choose a name, as an `async` function."""
    return LoginOptions(name="Kiosk")


async def stored(app: App, user: User) -> list[TokenRecord[Any]]:
    """Return all records of a user."""
    return await app.strategy().list_records(user)


# each option


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({"token_ttl": MINUTE}, {"expires_at": NOW + MINUTE, "token_ttl": MINUTE}),
        ({"token_ttl": 30 * DAY}, {"expires_at": NOW + 30 * DAY, "token_ttl": 30 * DAY}),
        ({"token_ttl": None}, {"expires_at": None}),
        ({"name": "Kiosk"}, {"name": "Kiosk"}),
        ({"name": " Ki\0osk " + "x" * 200}, {"name": "Kiosk " + "x" * 122}),
        ({"name": ""}, {"name": None}),
        ({"data": {"plan": ["pro", {"since": 2030}]}}, {"data": {"plan": ["pro", {"since": 2030}]}}),
        ({"browser_session": True}, {"browser_session": True}),
    ],
)
async def test_an_option_changes_its_own_field(
    app: App, ada: User, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    """An option is stored in its field of the record; the other fields are those of a login without options."""
    usual = await app.strategy(request=FROM_PHONE).issue(ada)
    await app.strategy().logout_all(ada)

    token = await app.strategy(login_options=always(**options), request=FROM_PHONE).issue(ada)

    assert await stored(app, ada) == [token.record]
    assert token.record == replace(usual.record, id=token.record.id, **fields)
    assert token.startswith("knox_")


async def test_a_prefix_may_be_chosen(app: App, ada: User) -> None:
    """The text of the token begins with the chosen prefix, and the record does not change."""
    token = await app.strategy(login_options=always(token_prefix="ios_")).issue(ada)

    assert token.startswith("ios_")
    assert await app.strategy().read_token(token, app.user_manager) is not None


async def test_the_settings_apply_to_what_is_left_out(app: App, ada: User) -> None:
    """The defaults of `LoginOptions` never replace the settings."""
    strategy = app.strategy(UNUSUAL, login_options=always(name="Kiosk"))

    tokens = [await strategy.issue(ada) for _ in range(2)]

    assert [token[:5] for token in tokens] == ["acme_"] * 2
    [record] = await stored(app, ada)
    assert (record.expires_at, record.name) == (NOW + HOUR, "Kiosk")


async def test_the_function_may_be_async(app: App, ada: User) -> None:
    """An `async` function is awaited."""
    token = await app.strategy(login_options=chosen_later).issue(ada)

    assert token.record.name == "Kiosk"


@pytest.mark.parametrize("connection", [FROM_PHONE, None])
async def test_the_function_gets_the_user_and_the_request(
    app: App, ada: User, connection: HTTPConnection | None
) -> None:
    """At each login the function is called once, with the user and the request, or with `None` in a script."""
    calls: list[object] = []

    def choose(*called_with: object) -> LoginOptions:
        calls.append(called_with)
        return LoginOptions()

    await app.strategy(login_options=choose, request=connection).write_token(ada)

    assert calls == [(ada, connection)]


# the limit


async def limited(app: App, user: User, settings: KnoxSettings, **options: Any) -> list[bool]:
    """Log in three times, a minute apart, and return which of these logins still have a token at the end."""
    issued: list[IssuedToken | None] = []
    for number in range(3):
        strategy = app.strategy(settings, now=NOW + number * MINUTE, login_options=always(**options))
        try:
            issued.append(await strategy.issue(user))
        except TokenLimitReached:
            issued.append(None)
    ids = {record.id for record in await stored(app, user)}
    return [token is not None and token.record.id in ids for token in issued]


@pytest.mark.parametrize(
    ("settings", "options", "live"),
    [
        (KnoxSettings(token_limit_per_user=1), {"token_limit_per_user": 2}, [True, True, False]),
        (KnoxSettings(token_limit_per_user=1), {"token_limit_per_user": None}, [True, True, True]),
        (DEFAULTS, {"token_limit_per_user": 2}, [True, True, False]),
        (KnoxSettings(token_limit_per_user=2), {"limit_policy": "evict_oldest"}, [False, True, True]),
        (UNUSUAL, {"limit_policy": "reject"}, [True, False, False]),
        (DEFAULTS, {"token_limit_per_user": 1, "limit_policy": "evict_oldest"}, [False, False, True]),
    ],
)
async def test_a_limit_and_a_policy_may_be_chosen(
    app: App, ada: User, settings: KnoxSettings, options: dict[str, Any], live: list[bool]
) -> None:
    """The limit may be lower, higher or off, and each policy decides what a login beyond it does."""
    assert await limited(app, ada, settings, **options) == live


@pytest.mark.parametrize(("limit_policy", "live"), [("reject", 3), ("evict_oldest", 1)])
async def test_a_lowered_limit_applies_from_the_next_login(
    app: App, ada: User, limit_policy: LimitPolicy, live: int
) -> None:
    """A limit below the number of live tokens refuses the next login, or makes room for it alone."""
    await limited(app, ada, DEFAULTS)

    await limited(app, ada, DEFAULTS, token_limit_per_user=1, limit_policy=limit_policy)

    assert len(await stored(app, ada)) == live


# lifetimes


@pytest.mark.parametrize(
    ("ttl", "cap", "after_uses"),
    [
        (10 * MINUTE, None, [13, 16, 19]),
        (2 * HOUR, None, [123, 126, 129]),
        (2 * HOUR, 2 * HOUR + 4 * MINUTE, [123, 123, 123]),
        (30 * DAY, 2 * HOUR, [120, 120, 120]),
        (None, None, [None, None, None]),
        (None, 2 * HOUR, [120, 120, 120]),
        (MINUTE, None, []),
    ],
)
async def test_a_refresh_keeps_the_chosen_lifetime(
    app: App, ada: User, ttl: timedelta | None, cap: timedelta | None, after_uses: list[int | None]
) -> None:
    """A short life stays short, a long one long, and none endless; the cap holds for all of them.

    A token that lives no longer than `min_refresh_interval` is never refreshed.
    """
    settings = REFRESHING.model_copy(update={"auto_refresh_max_ttl": cap})
    token = await app.strategy(settings, login_options=always(token_ttl=ttl)).issue(ada)

    for minutes, expires_after in zip((3, 6, 9), after_uses or [None] * 3, strict=True):
        found = await app.strategy(settings, now=NOW + minutes * MINUTE).authenticate(token, app.user_manager)
        assert (found is None) == (after_uses == [])
        expires_at = None if expires_after is None else NOW + expires_after * MINUTE
        assert found is None or found[1].expires_at == expires_at


async def test_a_chosen_lifetime_stays_when_the_settings_change(app: App, ada: User) -> None:
    """A lifetime that the application chose stays, even if it was that of the settings at the login."""
    token = await app.strategy(REFRESHING, login_options=always(token_ttl=HOUR)).issue(ada)
    longer = REFRESHING.model_copy(update={"token_ttl": 30 * DAY})

    found = await app.strategy(longer, now=NOW + MINUTE * 30).authenticate(token, app.user_manager)

    assert found is not None
    assert found[1].expires_at == NOW + 90 * MINUTE


# explicit arguments and other ways to a token


async def test_arguments_of_issue_come_first(app: App, ada: User) -> None:
    """An argument of `issue` replaces the option of the same name, and no other option."""
    options = always(token_ttl=DAY, name="Kiosk", data={"plan": "pro"}, browser_session=True, token_prefix="ios_")
    strategy = app.strategy(login_options=options)

    tokens = [
        await strategy.issue(ada, token_ttl=None),
        await strategy.issue(ada, name="Backup"),
        await strategy.issue(ada, data={}),
    ]

    chosen = [(token.record.expires_at, token.record.name, token.record.data) for token in tokens]
    assert chosen == [
        (None, "Kiosk", {"plan": "pro"}),
        (NOW + DAY, "Backup", {"plan": "pro"}),
        (NOW + DAY, "Kiosk", {}),
    ]
    assert all(token.record.browser_session and token.startswith("ios_") for token in tokens)


async def test_a_token_that_a_session_asks_for_has_options(app: App, ada: User) -> None:
    """The options also apply to a token that is issued on the authority of a session."""
    session = await app.strategy().issue(ada)
    strategy = app.strategy(now=NOW + MINUTE, login_options=always(token_ttl=HOUR, data={"plan": "pro"}))

    token = await strategy.issue(ada, by=session.record, replace=False)

    assert (token.record.expires_at, token.record.data) == (NOW + MINUTE + HOUR, {"plan": "pro"})
    assert token.record.authenticated_at == NOW


@pytest.mark.parametrize("name", ["Backup", ""])
async def test_a_successor_keeps_its_own_name_and_data(app: App, ada: User, name: str) -> None:
    """A rolled token gets the lifetime from the options, but keeps its name and data, even if it has none."""
    session = await app.strategy().issue(ada)
    old = await app.strategy().issue(ada, by=session.record, scopes=["read"], name=name, replace=False)
    strategy = app.strategy(
        login_options=always(token_ttl=HOUR, name="Kiosk", data={"plan": "pro"}), request=FROM_PHONE
    )

    new = await strategy.roll_token(old.record, ada, by=session.record, overlap=MINUTE)

    assert (new.record.name, new.record.data, new.record.expires_at) == (name or None, {}, NOW + HOUR)


async def test_a_new_text_keeps_what_was_chosen(app: App, ada: User) -> None:
    """Rotation and re-authentication keep the prefix and the record, and do not ask for options again."""
    options = always(token_prefix="ios_", token_ttl=DAY, data={"plan": "pro"}, browser_session=True)
    token = await app.strategy(login_options=options).issue(ada)
    other = app.strategy(now=NOW + SECOND, login_options=always(token_prefix="web_"))

    rotated = await other.rotate_token(token, ada)
    proved = await other.reauthenticate(rotated, ada)

    assert (rotated[:4], rotated.record) == ("ios_", token.record)
    assert (proved[:4], proved.record) == ("ios_", replace(token.record, authenticated_at=NOW + SECOND))


# errors


def fail(_user: User, _connection: HTTPConnection | None) -> LoginOptions:
    """Raise an error of the application."""
    raise LookupError("no such plan")


async def fail_later(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Raise an error of the application, as an `async` function."""
    return fail(user, connection)


def return_something_else(_user: User, _connection: HTTPConnection | None) -> Any:
    """Return something other than options."""
    return {"token_ttl": HOUR}


async def return_nothing(_user: User, _connection: HTTPConnection | None) -> Any:
    """Return nothing."""


@pytest.mark.parametrize(
    ("login_options", "error", "message"),
    [
        (fail, LookupError, "no such plan"),
        (fail_later, LookupError, "no such plan"),
        (return_something_else, TypeError, "login_options must return LoginOptions, not dict"),
        (return_nothing, TypeError, "login_options must return LoginOptions, not NoneType"),
        (always(data={"text": "x" * 4096}), ValueError, "data must have at most 4096 bytes"),
    ],
)
async def test_without_options_there_is_no_token(
    app: App, ada: User, login_options: GetLoginOptions, error: type[Exception], message: str
) -> None:
    """An error of the function and a wrong result fail the login; nothing is stored and no token is replaced."""
    kept = await app.strategy().issue(ada)

    with pytest.raises(error, match=message):
        await app.strategy(login_options=login_options).issue(ada)

    assert await stored(app, ada) == [kept.record]
