"""The tenant that an application sets for its session holds for every statement of the store, or an error is raised."""

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
    """Return a strategy with automatic refresh whose clock stands still."""
    return KnoxStrategy(tenant_store(session), SETTINGS, request=None, clock=lambda: now)


async def current_user(session: AsyncSession) -> TenantUser:
    """Load the user of the tenant."""
    return (await session.scalars(select(TenantUser).where(TenantUser.tenant == TENANT))).one()


@pytest.fixture
async def token(tenant: Tenancy) -> str:
    """Issue a token."""
    async with tenant.session() as session:
        return await strategy_on(session).write_token(await current_user(session))


# What the store does for a tenant is the same with each driver, so one whole life shows that each can do it.
DRIVERS = pytest.mark.parametrize("url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True)
# A setting by one statement is lost when the store leaves a snapshot, and has no effect without a transaction.
HOLDING = pytest.mark.parametrize(
    ("way", "level"),
    [
        *((way, level) for way in ("by_session_class", "by_engine") for level in LEVELS[:3]),
        *((way, LEVELS[0]) for way in ALL if way not in {"by_session_class", "by_engine"}),
        ("by_engine", "AUTOCOMMIT"),
        ("by_execute_listener", "REPEATABLE READ"),
    ],
)


@DRIVERS
@HOLDING
async def test_a_whole_life(tenant: Tenancy) -> None:
    """Login, read with a refresh, rotation and logout work for the tenant, each in its own request."""
    async with tenant.session() as session:
        token = await strategy_on(session).write_token(await current_user(session))
    async with tenant.session() as session:
        assert await strategy_on(session, LATER).read_token(token, tenant_user_manager(session)) is not None
    async with tenant.session() as session:
        rotated = await strategy_on(session).rotate_token(token, await current_user(session))
    async with tenant.session() as session:
        await strategy_on(session).destroy_token(rotated, await current_user(session))

    assert await tenant.stored() == []


@HOLDING
async def test_logout_all_ends_all(tenant: Tenancy) -> None:
    """A logout-all revokes all of a user's tokens, including those that only the tenant can see."""
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
    """A due refresh is stored, whether the session is idle or has an open transaction."""
    async with tenant.session() as session:
        if is_open:
            await current_user(session)

        assert await strategy_on(session, LATER).read_token(token, tenant_user_manager(session)) is not None

    assert [row.expires_at for row in await tenant.stored()] == [LATER + timedelta(hours=10)]


@pytest.mark.parametrize("way", BY_EXECUTE)
async def test_a_refresh_leaves_an_idle_session_idle(tenant: Tenancy, token: str) -> None:
    """Reading the session's execution options for a refresh leaves no transaction open."""
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
    """If the tenant is set only in the application's own transaction, a read succeeds without the refresh."""
    async with tenant.session() as session:
        assert await strategy_on(session, LATER).read_token(token, tenant_user_manager(session)) is not None

    assert [row.expires_at for row in await tenant.stored()] == [NOW + timedelta(hours=10)]


@pytest.mark.parametrize("way", LASTING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_an_older_snapshot_is_checked_as_the_tenant(tenant: Tenancy, token: str) -> None:
    """In an older snapshot, a read checks the token on a second connection, for which the tenant is set too."""
    async with tenant.session() as session:
        await current_user(session)
        accepted = await strategy_on(session).read_token(token, tenant_user_manager(session))
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f"DELETE FROM {tenant.schema}.knox_token")
        refused = await strategy_on(session).read_token(token, tenant_user_manager(session))

    assert accepted is not None
    assert refused is None


@pytest.mark.parametrize("way", ["by_statement"])
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_a_login_that_loses_its_tenant_says_so(tenant: Tenancy) -> None:
    """A login that loses the tenant because the application set it by a statement raises an error that explains it."""
    async with tenant.session() as session:
        user = await current_user(session)

        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).write_token(user)


@pytest.fixture
async def issued(tenant: Tenancy) -> IssuedToken:
    """Issue a token, in a session whose tenant is set for each transaction."""
    async with BY_ROW["by_session_class"](tenant.engine) as session:
        return await strategy_on(session).issue(await current_user(session))


async def logout_all(session: AsyncSession, user: TenantUser, _token: IssuedToken) -> None:
    """Log out everywhere."""
    await strategy_on(session).logout_all(user)


async def revoke(session: AsyncSession, user: TenantUser, token: IssuedToken) -> None:
    """Revoke the session by its id."""
    await strategy_on(session).revoke(user, token.record.id)


async def rotate(session: AsyncSession, user: TenantUser, token: IssuedToken) -> None:
    """Rotate the token."""
    await strategy_on(session).rotate_token(token, user)


async def reauthenticate(session: AsyncSession, user: TenantUser, token: IssuedToken) -> None:
    """Re-authenticate."""
    await strategy_on(session).reauthenticate(token, user)


async def log_in(session: AsyncSession, user: TenantUser, _token: IssuedToken) -> None:
    """Log in."""
    await strategy_on(session).issue(user)


VERBS = [log_in, logout_all, revoke, rotate, reauthenticate]
LOSING = ["by_statement", "by_statement_beside_a_listener"]


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
@pytest.mark.parametrize("is_shared", [False, True], ids=["own rows", "shared rows"])
@pytest.mark.parametrize("verb", VERBS)
async def test_what_ends_nothing_without_a_tenant_says_so(
    tenant: Tenancy, issued: IssuedToken, verb: Any, *, is_shared: bool
) -> None:
    """A write that loses the tenant raises an error, even if other listeners exist or other tenants share rows."""
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
    """A write raises an error if the application has lost the tenant by its own commit before."""
    async with tenant.session() as session:
        user = await current_user(session)
        await session.commit()

        with pytest.raises(KnoxError, match="after_begin"):
            await verb(session, user, issued)

    assert len(await tenant.stored()) == 1


@pytest.mark.parametrize("way", [*BY_ROW, "by_statement"])
async def test_what_is_really_gone_is_no_mistake(tenant: Tenancy, token: str) -> None:
    """With the tenant set, the revocation of an unknown session returns false and raises no error."""
    async with tenant.session() as session:
        assert not await strategy_on(session).revoke(await current_user(session), uuid.uuid4())

    assert len(await tenant.stored()) == 1
    assert token


@pytest.mark.parametrize("way", ["by_begin_of_engine", "by_session_class"])
async def test_nothing_to_end_is_no_mistake(tenant: Tenancy) -> None:
    """A logout-all of a user without tokens returns 0 and raises no error."""
    async with tenant.session() as session:
        assert await strategy_on(session).logout_all(await current_user(session)) == 0


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_an_older_snapshot_that_cannot_be_checked_says_so(tenant: Tenancy, issued: IssuedToken) -> None:
    """A read in an older snapshot that cannot be checked for the tenant raises an error instead of refusing a token."""
    async with tenant.session() as session:
        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).read_token(issued, tenant_user_manager(session))


@pytest.mark.parametrize("way", ["by_search_path_once"])
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
@pytest.mark.parametrize("verb", [log_in, logout_all])
async def test_a_search_path_that_is_lost_says_so(tenant: Tenancy, verb: Any) -> None:
    """A write that loses the search path, and so would find different tables or no tables, raises an error."""
    async with BY_SCHEMA["by_search_path"](tenant.engine) as session:
        issued = await strategy_on(session).issue(await current_user(session))

    async with tenant.session() as session:
        user = await current_user(session)

        with pytest.raises(KnoxError, match="search_path"):
            await verb(session, user, issued)

    assert len(await tenant.stored()) == 1


@pytest.mark.parametrize("way", ["by_engine"])
async def test_a_user_that_is_really_gone_has_bad_credentials(tenant: Tenancy) -> None:
    """Without row-level security, a login of a user who was deleted meanwhile raises `CredentialsChanged`."""
    async with tenant.session() as session:
        user = await current_user(session)
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f'DELETE FROM {tenant.schema}."user"')

        with pytest.raises(CredentialsChanged):
            await strategy_on(session).write_token(user)


@pytest.mark.parametrize("way", [*BY_ROW, *LOSING, "by_begin_of_engine"])
async def test_a_user_that_this_application_deletes_is_no_mistake(tenant: Tenancy) -> None:
    """After the application has deleted a user, a logout-all returns 0 and a login raises `CredentialsChanged`."""
    async with tenant.session() as session:
        user = await current_user(session)
        await tenant_user_manager(session).delete(user)

        assert await strategy_on(session).logout_all(user) == 0
        with pytest.raises(CredentialsChanged):
            await strategy_on(session).write_token(user)


@pytest.mark.parametrize("way", LOSING)
async def test_a_deletion_that_was_rolled_back_explains_nothing(tenant: Tenancy, issued: IssuedToken) -> None:
    """A deletion that was rolled back does not hide the error about a lost tenant."""
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
    """If a user may be hidden by row-level security or deleted by another process, the error names both causes."""
    async with tenant.session() as session:
        user = await current_user(session)
        async with tenant.superuser.begin() as connection:
            await connection.exec_driver_sql(f'DELETE FROM {tenant.schema}."user"')

        with pytest.raises(KnoxError, match="deleted meanwhile"):
            await strategy_on(session).write_token(user)


def tokens_alone(session: AsyncSession) -> Tokens:
    """Return a strategy whose store does not see the users."""
    store = SQLAlchemyTokenStore[TenantUser, uuid.UUID](session, TenantToken, users=None)
    return KnoxStrategy(store, KnoxSettings(), request=None, user_db=None, clock=lambda: NOW)


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
async def test_without_users_a_token_that_was_read_is_looked_for(
    tenant: Tenancy, issued: IssuedToken, *, is_lost: bool
) -> None:
    """A store with `users=None` notices a lost tenant by a token that it has read and that is invisible later."""
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
    """A login rolls back a failed transaction, and then raises an error because the tenant is lost with it."""
    async with tenant.session() as session:
        user = await current_user(session)
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT 1 / 0"))

        with pytest.raises(KnoxError, match="after_begin"):
            await strategy_on(session).write_token(user)
