"""Tenants: what an application sets for its session holds for every statement of ours, or an error says so."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import (
    CredentialsChanged,
    IssuedToken,
    KnoxError,
    KnoxSettings,
    KnoxStrategy,
)
from fastapi_users_knox.records import Found
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.backends import NOW
from tests.tenants import (
    ALL,
    BY_EXECUTE,
    BY_ROW,
    BY_SCHEMA,
    LASTING,
    TENANT,
    Tenancy,
    TenantToken,
    TenantUser,
    tenant_store,
    tenant_user_manager,
)

pytestmark = pytest.mark.anyio

LATER = NOW + timedelta(hours=1)
SETTINGS = KnoxSettings(auto_refresh=True, token_limit_per_user=5)
LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"]
Tokens = KnoxStrategy[TenantUser, uuid.UUID]


def strategy_on(session: AsyncSession, now: datetime = NOW) -> Tokens:
    """Make a strategy that refreshes, at a fixed time."""
    return KnoxStrategy(tenant_store(session), SETTINGS, request=None, clock=lambda: now)


async def current_user(session: AsyncSession) -> TenantUser:
    """Load the tenant's own user."""
    return (await session.scalars(select(TenantUser).where(TenantUser.tenant == TENANT))).one()


@pytest.fixture
async def token(tenant: Tenancy) -> str:
    """Issue a token."""
    async with tenant.session() as session:
        return await strategy_on(session).write_token(await current_user(session))


# In a snapshot what one statement has set cannot be taken along, and without a transaction it has set nothing.
HOLDING = pytest.mark.parametrize(
    ("way", "level"),
    [
        *((way, level) for way in ("by_session_class", "by_engine") for level in LEVELS[:3]),
        *((way, LEVELS[0]) for way in ALL if way not in {"by_session_class", "by_engine"}),
        ("by_engine", "AUTOCOMMIT"),
        ("by_execute_listener", "REPEATABLE READ"),
    ],
)


@HOLDING
async def test_a_whole_life(tenant: Tenancy) -> None:
    """Login, use, rotation and logout are the tenant's, each in a request of its own."""
    async with tenant.session() as session:
        token = await strategy_on(session).write_token(await current_user(session))
    async with tenant.session() as session:
        assert await strategy_on(session).read_token(token, tenant_user_manager(session)) is not None
    async with tenant.session() as session:
        rotated = await strategy_on(session).rotate_token(token, await current_user(session))
    async with tenant.session() as session:
        await strategy_on(session).destroy_token(rotated, await current_user(session))

    assert await tenant.stored() == []


@HOLDING
async def test_logout_all_ends_all(tenant: Tenancy) -> None:
    """All of a user's tokens end, not only those that a transaction without a tenant sees."""
    for _ in range(2):
        async with tenant.session() as session:
            await strategy_on(session).write_token(await current_user(session))

    async with tenant.session() as session:
        ended = await strategy_on(session).logout_all(await current_user(session))

    assert ended == 2
    assert await tenant.stored() == []


@pytest.mark.parametrize("way", LASTING)
@pytest.mark.parametrize("is_open", [False, True], ids=["idle", "in a transaction"])
async def test_a_refresh_is_the_tenants(tenant: Tenancy, token: str, *, is_open: bool) -> None:
    """A due refresh is stored in a session that was idle, and beside a transaction of the application's."""
    async with tenant.session() as session:
        if is_open:
            await current_user(session)

        assert await strategy_on(session, LATER).read_token(token, tenant_user_manager(session)) is not None

    assert [row.expires_at for row in await tenant.stored()] == [LATER + timedelta(hours=10)]


@pytest.mark.parametrize("way", BY_EXECUTE)
async def test_a_refresh_leaves_an_idle_session_idle(tenant: Tenancy, token: str) -> None:
    """Options of the session's are found without a transaction that stays open."""
    (row,) = await tenant.stored()
    async with tenant.session() as session:
        store = tenant_store(session)
        (record,) = await store.list(row.user_id, audience=row.audience, now=NOW)
        await session.commit()
        found: Found[TenantUser, uuid.UUID] = Found(record=record, digest=row.digest, is_active=True, user=None)

        assert await store.renew(found, now=LATER, unused_since=LATER)
        assert not session.in_transaction()
    assert token


@pytest.mark.parametrize("way", ["by_statement"])
async def test_a_refresh_without_a_tenant_is_skipped(tenant: Tenancy, token: str) -> None:
    """Where only the application's own transaction is the tenant's, a request goes on without the refresh."""
    async with tenant.session() as session:
        assert await strategy_on(session, LATER).read_token(token, tenant_user_manager(session)) is not None

    assert [row.expires_at for row in await tenant.stored()] == [NOW + timedelta(hours=10)]


@pytest.mark.parametrize("way", LASTING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_an_older_snapshot_is_checked_as_the_tenant(tenant: Tenancy, token: str) -> None:
    """Where a second connection is asked what holds now, it is asked as the tenant."""
    async with tenant.session() as session:
        await current_user(session)
        accepted = await strategy_on(session).read_token(token, tenant_user_manager(session))
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f"DELETE FROM {tenant.schema}.knox_token")
        refused = await strategy_on(session).read_token(token, tenant_user_manager(session))

    assert accepted is not None
    assert refused is None


@pytest.mark.parametrize("way", BY_ROW)
async def test_a_read_of_one_trip_is_the_tenants(tenant: Tenancy, token: str) -> None:
    """`knox_autocommit` gives way to what is set at the begin of a transaction."""
    async with tenant.open_session(tenant.engine.execution_options(knox_autocommit=True)) as session:
        assert await strategy_on(session).read_token(token, tenant_user_manager(session)) is not None


@pytest.mark.parametrize("way", ["by_statement"])
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_a_login_that_loses_its_tenant_says_so(tenant: Tenancy) -> None:
    """Where what a statement has set ends before the write, that is no case of bad credentials."""
    async with tenant.session() as session:
        user = await current_user(session)

        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).write_token(user)


@pytest.fixture
async def issued(tenant: Tenancy) -> IssuedToken:
    """Issue a token, whatever the way."""
    async with BY_ROW["by_session_class"](tenant.engine) as session:
        return await strategy_on(session).issue(await current_user(session))


async def logout_all(session: AsyncSession, user: TenantUser, _token: IssuedToken) -> None:
    """Log out everywhere."""
    await strategy_on(session).logout_all(user)


async def revoke(session: AsyncSession, user: TenantUser, token: IssuedToken) -> None:
    """End the session by its id."""
    await strategy_on(session).revoke(user, token.record.id)


async def rotate(session: AsyncSession, user: TenantUser, token: IssuedToken) -> None:
    """Rotate."""
    await strategy_on(session).rotate_token(token, user)


async def log_in(session: AsyncSession, user: TenantUser, _token: IssuedToken) -> None:
    """Log in."""
    await strategy_on(session).issue(user)


VERBS = [log_in, logout_all, revoke, rotate]
LOSING = ["by_statement", "by_statement_beside_a_listener"]


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
@pytest.mark.parametrize("is_shared", [False, True], ids=["own rows", "shared rows"])
@pytest.mark.parametrize("verb", VERBS)
async def test_what_ends_nothing_without_a_tenant_says_so(
    tenant: Tenancy, issued: IssuedToken, verb: Any, *, is_shared: bool
) -> None:
    """Where what a statement has set ends before the write, an error says so, whatever listens and is shared."""
    if is_shared:
        await tenant.share()

    async with tenant.session() as session:
        user = await current_user(session)

        with pytest.raises(KnoxError, match="after_begin"):
            await verb(session, user, issued)

    assert len(await tenant.stored()) == 1


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("verb", [log_in, logout_all, revoke])
async def test_an_own_commit_that_loses_the_tenant_is_seen(tenant: Tenancy, issued: IssuedToken, verb: Any) -> None:
    """A write after a commit of the application's, which has ended what it had set, is no success either."""
    async with tenant.session() as session:
        user = await current_user(session)
        await session.commit()

        with pytest.raises(KnoxError, match="after_begin"):
            await verb(session, user, issued)

    assert len(await tenant.stored()) == 1


@pytest.mark.parametrize("way", [*BY_ROW, "by_statement"])
async def test_what_is_really_gone_is_no_mistake(tenant: Tenancy, token: str) -> None:
    """With the tenant set, a session that does not exist, or that another call has ended, is merely not found."""
    async with tenant.session() as session:
        assert not await strategy_on(session).revoke(await current_user(session), uuid.uuid4())

    assert len(await tenant.stored()) == 1
    assert token


@pytest.mark.parametrize("way", ["by_begin_of_engine", "by_session_class"])
async def test_nothing_to_end_is_no_mistake(tenant: Tenancy) -> None:
    """A user without tokens, in a tenant without tokens, logs out everywhere, however the tenant is set."""
    async with tenant.session() as session:
        assert await strategy_on(session).logout_all(await current_user(session)) == 0


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_an_older_snapshot_that_cannot_be_checked_says_so(tenant: Tenancy, issued: IssuedToken) -> None:
    """Where the second connection is not the tenant's, a token that is live is not called an ended one."""
    async with tenant.session() as session:
        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).read_token(issued, tenant_user_manager(session))


@pytest.mark.parametrize("way", ["by_search_path_once"])
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
@pytest.mark.parametrize("verb", [log_in, logout_all])
async def test_a_search_path_that_is_lost_says_so(tenant: Tenancy, verb: Any) -> None:
    """Where the same names find other tables, or none, in the transaction of the write, nothing is written."""
    async with BY_SCHEMA["by_search_path"](tenant.engine) as session:
        issued = await strategy_on(session).issue(await current_user(session))

    async with tenant.session() as session:
        user = await current_user(session)

        with pytest.raises(KnoxError, match="search_path"):
            await verb(session, user, issued)

    assert len(await tenant.stored()) == 1


@pytest.mark.parametrize("way", ["by_engine"])
async def test_a_user_that_is_really_gone_has_bad_credentials(tenant: Tenancy) -> None:
    """Without row-level security, a user who was deleted meanwhile is refused as ever."""
    async with tenant.session() as session:
        user = await current_user(session)
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f'DELETE FROM {tenant.schema}."user"')

        with pytest.raises(CredentialsChanged):
            await strategy_on(session).write_token(user)


@pytest.mark.parametrize("way", [*BY_ROW, *LOSING, "by_begin_of_engine"])
async def test_a_user_that_this_application_deletes_is_no_mistake(tenant: Tenancy) -> None:
    """After a deletion by the user database, there is nothing to revoke, and nobody to log in."""
    async with tenant.session() as session:
        user = await current_user(session)
        await tenant_user_manager(session).delete(user)

        assert await strategy_on(session).logout_all(user) == 0
        with pytest.raises(CredentialsChanged):
            await strategy_on(session).write_token(user)


@pytest.mark.parametrize("way", LOSING)
async def test_a_deletion_that_was_rolled_back_explains_nothing(tenant: Tenancy, issued: IssuedToken) -> None:
    """A user who was nearly deleted is still there, so that a lost tenant is one."""
    async with tenant.session() as session:
        user = await current_user(session)
        await session.delete(user)
        await session.flush()
        await session.rollback()

        with pytest.raises(KnoxError, match="after_begin"):
            await tenant_store(session).remove_all(tenant.user.id, audience=None, now=NOW)

    assert len(await tenant.stored()) == 1
    assert issued


@pytest.mark.parametrize("way", ["by_session_class"])
async def test_a_user_that_others_delete_may_be_hidden(tenant: Tenancy) -> None:
    """Nobody can say whether a row is hidden or deleted, so the error names both."""
    async with tenant.session() as session:
        user = await current_user(session)
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f'DELETE FROM {tenant.schema}."user"')

        with pytest.raises(KnoxError, match="deleted meanwhile"):
            await strategy_on(session).write_token(user)


def tokens_alone(session: AsyncSession) -> Tokens:
    """Make a strategy whose store does not see the users."""
    store = SQLAlchemyTokenStore[TenantUser, uuid.UUID](session, TenantToken, users=None)
    return KnoxStrategy(store, KnoxSettings(), request=None, user_db=None, clock=lambda: NOW)


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
async def test_without_users_a_token_that_was_read_is_looked_for(
    tenant: Tenancy, issued: IssuedToken, *, is_lost: bool
) -> None:
    """Where the store does not see users, it misses a token that it has read, until it has ended it."""
    async with tenant.session() as session:
        user, strategy = await current_user(session), tokens_alone(session)
        assert await strategy.read_token(issued, tenant_user_manager(session)) is user
        if is_lost:
            await session.commit()
            with pytest.raises(KnoxError, match="after_begin"):
                await strategy.logout_all(user)
        else:
            assert await strategy.logout_all(user) == 1
            assert await strategy.logout_all(user) == 0

    assert len(await tenant.stored()) == int(is_lost)


@pytest.mark.parametrize("way", ["by_statement"])
async def test_a_failed_transaction_is_not_joined(tenant: Tenancy) -> None:
    """A transaction of the application's that has failed, and its tenant with it, is given up before the login."""
    async with tenant.session() as session:
        user = await current_user(session)
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT 1 / 0"))

        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).write_token(user)
