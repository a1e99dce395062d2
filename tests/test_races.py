"""Races on every store, from two processes at once: the guarantees hold however the calls interleave."""

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from fastapi_users_knox import GetLoginOptions, KnoxSettings, LoginOptions
from fastapi_users_knox.records import LimitPolicy
from tests.backends import NOW, REDIS, SERVERS, SQLITE, App, Backend
from tests.conftest import backend_of
from tests.models import User, create_user
from tests.race import Caller, Race

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

LATER = NOW + timedelta(hours=1)
REFRESHING = KnoxSettings(auto_refresh=True)
BACKENDS = [*SQLITE, *SERVERS, *REDIS]
# One driver of each database. The limit's other policies change what is deleted, and not how a login locks.
DATABASES = ["sqlite", "postgresql-asyncpg", "mariadb", "redis-7", "redis-cluster"]
CALLERS = 16  # With this number a login without the lock on its user exceeds the limit in nine runs of ten.
# MariaDB at SERIALIZABLE locks every row that is read until the reader's transaction ends. A refresh waits until no
# other transaction uses the token. So no reader can write if many read at once, and a deadlock may abort a reader.
UNLOCKING = [name for name in BACKENDS if name != "mariadb-serializable"]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all callers of a race get.

    Attributes:
        user_ids: The ids of the users.
        settings: The settings of the strategies.
        tokens: The tokens that were issued before the race.
        login_options: The function that chooses the options of each login, if there is one.
    """

    user_ids: Sequence[uuid.UUID]
    settings: KnoxSettings = field(default_factory=KnoxSettings)
    tokens: Sequence[str] = ()
    login_options: GetLoginOptions | None = None


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return each kind of store that several processes can share, with no users and no tokens."""
    backend = backend_of(request.param, request, tmp_path)
    await backend.empty()
    return backend


@pytest.fixture
async def app(backend: Backend) -> AsyncIterator[App]:
    """Return the session and the store of the test itself."""
    async with backend.serving() as open_app, open_app() as app:
        yield app


@pytest.fixture(scope="module")
def race() -> Iterator[Race]:
    """Return the race, whose processes run for all tests of this module."""
    race = Race()
    yield race
    race.close()


async def new_user(app: App, *, is_superuser: bool = False) -> User:
    """Store a user, and leave the session without a transaction, so that its next read sees the latest data."""
    user = await create_user(app.session, is_superuser=is_superuser)
    await app.session.commit()
    return user


async def can_read(app: App, token: str) -> bool:
    """Return whether a token is accepted."""
    return await app.strategy(now=LATER).read_token(token, app.user_manager) is not None


async def login(caller: Caller) -> str:
    """Load the user, as the check of the credentials does, and then log in."""
    shared, users = caller.shared, caller.shared.user_ids
    user = await caller.app.session.get_one(User, users[caller.number % len(users)])
    await caller.ready()
    return str(await caller.app.strategy(shared.settings, login_options=shared.login_options).write_token(user))


@pytest.mark.parametrize(
    ("backend", "limit_policy"),
    [
        *((backend, "reject") for backend in BACKENDS),
        *((backend, policy) for backend in DATABASES for policy in ("evict_oldest", "evict_least_recently_used")),
    ],
    indirect=["backend"],
)
async def test_the_limit_is_exact(race: Race, backend: Backend, app: App, limit_policy: LimitPolicy) -> None:
    """Of many simultaneous logins with a limit of 5, five tokens are live; with `reject`, only five logins succeed."""
    user = await new_user(app)
    settings = KnoxSettings(token_limit_per_user=5, limit_policy=limit_policy)

    outcomes = await race(backend, login, Shared(user_ids=[user.id], settings=settings), callers=CALLERS)

    issued = [outcome for outcome in outcomes if outcome.startswith("knox_")]
    assert len(await app.strategy(settings).list_records(user)) == 5
    assert len(issued) == (5 if limit_policy == "reject" else CALLERS)
    assert set(outcomes) - set(issued) == ({"TokenLimitReached"} if limit_policy == "reject" else set())


async def options_by_plan(user: User, _connection: object) -> LoginOptions:
    """Let a login of a superuser evict a token beyond the third, and refuse everybody else a sixth token."""
    if user.is_superuser:
        return LoginOptions(token_limit_per_user=3, limit_policy="evict_oldest")
    return LoginOptions(token_limit_per_user=5)


@pytest.mark.parametrize("backend", DATABASES, indirect=True)
async def test_the_limit_of_each_user_is_exact(race: Race, backend: Backend, app: App) -> None:
    """Of many simultaneous logins of two users, each user's own limit and policy hold exactly."""
    ada, root = await new_user(app), await new_user(app, is_superuser=True)
    shared = Shared(user_ids=[ada.id, ada.id, root.id, root.id], login_options=options_by_plan)

    outcomes = await race(backend, login, shared, callers=CALLERS)

    ada_s = [outcome for number, outcome in enumerate(outcomes) if number % 4 < 2]  # two callers in each process
    assert [len(await app.strategy().list_records(user)) for user in (ada, root)] == [5, 3]
    assert (outcomes.count("TokenLimitReached"), ada_s.count("TokenLimitReached")) == (3, 3)
    assert sum(outcome.startswith("knox_") for outcome in outcomes) == CALLERS - 3


async def test_many_users_log_in_at_once(race: Race, backend: Backend, app: App) -> None:
    """Simultaneous logins of different users, on an empty table, all succeed."""
    users = [await new_user(app) for _ in range(CALLERS)]
    shared = Shared(user_ids=[user.id for user in users], settings=KnoxSettings(token_limit_per_user=5))

    outcomes = await race(backend, login, shared, callers=CALLERS)

    assert [await can_read(app, outcome) for outcome in outcomes] == [True] * CALLERS


async def read_or_log_out(caller: Caller) -> None:
    """Read a token whose refresh is due, or revoke it; for each token, two callers read and two callers revoke."""
    shared, app = caller.shared, caller.app
    user = await caller.app.session.get_one(User, shared.user_ids[0])
    await caller.app.session.commit()
    strategy, token = app.strategy(shared.settings, now=LATER), shared.tokens[caller.number // 4]
    await caller.ready()
    if caller.number % 2:
        await strategy.destroy_token(token, user)
    else:
        await strategy.read_token(token, app.user_manager)


@pytest.mark.parametrize("backend", UNLOCKING, indirect=True)
async def test_refresh_against_logout(race: Race, backend: Backend, app: App) -> None:
    """A token that is refreshed and revoked at the same moment stays revoked."""
    user = await new_user(app)
    tokens = [str(await app.strategy(REFRESHING).write_token(user)) for _ in range(CALLERS // 4)]
    shared = Shared(user_ids=[user.id], settings=REFRESHING, tokens=tokens)

    outcomes = await race(backend, read_or_log_out, shared, callers=CALLERS)

    assert not any([await can_read(app, token) for token in tokens])
    assert set(outcomes) == {None, "InvalidToken"}
    assert outcomes.count("InvalidToken") == CALLERS // 4


async def read_or_log_out_everywhere(caller: Caller) -> None:
    """Read a token whose refresh is due; one caller revokes all tokens instead."""
    shared, app = caller.shared, caller.app
    user = await caller.app.session.get_one(User, shared.user_ids[0])
    await caller.app.session.commit()
    strategy = app.strategy(shared.settings, now=LATER)
    await caller.ready()
    if caller.number == len(shared.tokens):
        await strategy.logout_all(user)
    else:
        await strategy.read_token(shared.tokens[caller.number], app.user_manager)


@pytest.mark.parametrize("backend", UNLOCKING, indirect=True)
async def test_refresh_against_logout_all(race: Race, backend: Backend, app: App) -> None:
    """No token that is refreshed during a logout-all is accepted after it."""
    user = await new_user(app)
    tokens = [str(await app.strategy(REFRESHING).write_token(user)) for _ in range(CALLERS - 1)]
    shared = Shared(user_ids=[user.id], settings=REFRESHING, tokens=tokens)

    outcomes = await race(backend, read_or_log_out_everywhere, shared, callers=CALLERS)

    assert set(outcomes) == {None}
    assert not any([await can_read(app, token) for token in tokens])
    assert await app.strategy(REFRESHING).list_records(user) == []


async def log_in_or_out_everywhere(caller: Caller) -> str | None:
    """Log in; every eighth caller revokes all tokens instead."""
    user = await caller.app.session.get_one(User, caller.shared.user_ids[0])
    await caller.app.session.commit()
    strategy = caller.app.strategy(caller.shared.settings)
    await caller.ready()
    if caller.number % 8 == 0:
        await strategy.logout_all(user)
        return None
    return str(await strategy.write_token(user))


async def test_login_against_logout_all(race: Race, backend: Backend, app: App) -> None:
    """After a logout-all, no earlier token is accepted, and a token of the meantime that is accepted is also listed."""
    user = await new_user(app)
    settings = KnoxSettings(token_limit_per_user=1000)
    before = [str(await app.strategy(settings).write_token(user)) for _ in range(5)]
    shared = Shared(user_ids=[user.id], settings=settings)

    outcomes = await race(backend, log_in_or_out_everywhere, shared, callers=CALLERS)

    during = [outcome for outcome in outcomes if outcome is not None]
    assert len(during) == CALLERS * 7 // 8
    assert not any([await can_read(app, token) for token in before])
    alive = [token for token in during if await can_read(app, token)]
    await app.session.commit()
    assert len(await app.strategy(settings).list_records(user)) == len(alive)


async def log_in_or_change_password(caller: Caller) -> str | None:
    """Log in with the old password; one caller changes the password meanwhile, and then revokes all tokens."""
    user = await caller.app.session.get_one(User, caller.shared.user_ids[0])
    strategy = caller.app.strategy(caller.shared.settings)
    if caller.number != 0:
        await caller.ready()
        return str(await strategy.write_token(user))
    await caller.app.session.commit()
    await caller.ready()
    await caller.app.session.execute(update(User).values(hashed_password="changed"))
    await caller.app.session.commit()
    await caller.app.session.refresh(user)
    await strategy.logout_all(user)
    return None


@pytest.mark.parametrize(
    ("backend", "limit"),
    [*((backend, None) for backend in BACKENDS), *((backend, 1000) for backend in DATABASES)],
    indirect=["backend"],
)
async def test_login_against_a_change_of_password(race: Race, backend: Backend, app: App, limit: int | None) -> None:
    """A login with the old password fails like one with bad credentials, or its token is revoked afterwards."""
    user = await new_user(app)
    shared = Shared(user_ids=[user.id], settings=KnoxSettings(token_limit_per_user=limit))

    outcomes = await race(backend, log_in_or_change_password, shared, callers=CALLERS)

    issued = [outcome for outcome in outcomes[1:] if outcome.startswith("knox_")]
    # If all of a user's tokens are removed from Redis during a login, the store cannot know why.
    assert set(outcomes[1:]) - set(issued) <= {"CredentialsChanged", "StoreUnavailable"}
    assert not any([await can_read(app, token) for token in issued])
    assert outcomes[0] is None


async def read_when_refresh_is_due(caller: Caller) -> tuple[bool, int]:
    """Read the token, and return whether it was accepted and how often it was refreshed."""
    events: list[object] = []
    strategy = caller.app.strategy(caller.shared.settings, now=LATER, listeners=[events.append])
    await caller.ready()
    user = await strategy.read_token(caller.shared.tokens[0], caller.app.user_manager)
    return user is not None, len(events)


@pytest.mark.parametrize("backend", UNLOCKING, indirect=True)
async def test_of_many_reads_one_refreshes(race: Race, backend: Backend, app: App) -> None:
    """Simultaneous reads of a token whose refresh is due are all accepted, and write only once."""
    user = await new_user(app)
    token = str(await app.strategy(REFRESHING).write_token(user))
    shared = Shared(user_ids=[user.id], settings=REFRESHING, tokens=[token])

    outcomes = await race(backend, read_when_refresh_is_due, shared, callers=CALLERS)

    accepted, refreshed = zip(*outcomes, strict=True)
    assert all(accepted)
    assert sum(refreshed) == 1
    [record] = await app.strategy(REFRESHING).list_records(user)
    assert record.last_used_at == LATER
