"""Inside `begin()`, reads work, and every verb that would have to commit is refused before it does anything."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from fastapi_users_knox import IssuedToken, KnoxError, KnoxSettings
from tests.models import KnoxToken, User, create_user
from tests.strategies import HOUR, Knox

pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.anyio,
    pytest.mark.parametrize("any_backend", ["sqlite-memory", "sqlite", "postgresql-asyncpg", "mariadb"], indirect=True),
]

REFRESHING = KnoxSettings(auto_refresh=True)
Sessions = async_sessionmaker[AsyncSession]
Open = Callable[[Sessions], AbstractAsyncContextManager[AsyncSession]]
Verb = Callable[[Knox, IssuedToken], Awaitable[object]]


@asynccontextmanager
async def by_maker(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a session that commits at the end of the block."""
    async with sessions.begin() as session:
        yield session


@asynccontextmanager
async def by_session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a session inside a `begin()` block."""
    async with sessions() as session, session.begin():
        yield session


@asynccontextmanager
async def without_autobegin(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a session with `autobegin=False` inside a `begin()` block."""
    async with sessions(autobegin=False) as session, session.begin():
        yield session


@asynccontextmanager
async def by_savepoint(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a session inside a `begin_nested()` block, which is a SAVEPOINT."""
    async with sessions() as session, session.begin_nested():
        yield session


VERBS: Mapping[str, Verb] = {
    "login": lambda knox, _: knox.strategy().issue(knox.user),
    "rotate": lambda knox, token: knox.strategy().rotate_token(token, knox.user),
    "re-authenticate": lambda knox, token: knox.strategy().reauthenticate(token, knox.user),
    "logout": lambda knox, token: knox.strategy().destroy_token(token, knox.user),
    "revoke": lambda knox, token: knox.strategy().revoke(knox.user, token.record.id),
    "logout-all": lambda knox, _: knox.strategy().logout_all(knox.user),
    "purge": lambda knox, _: knox.strategy().purge(),
}
blocks = pytest.mark.parametrize("block", [by_maker, by_session, without_autobegin, by_savepoint])


@pytest.fixture
async def issued(sessions: Sessions) -> IssuedToken:
    """Issue a token to a user."""
    async with sessions() as session:
        user = await create_user(session)
        return await Knox(session=session, user=user).strategy().issue(user)


async def only_user(session: AsyncSession) -> User:
    """Load the only user."""
    return (await session.scalars(select(User))).one()


async def count_users(session: AsyncSession) -> int:
    """Return the number of users that a session sees."""
    return (await session.scalars(select(func.count()).select_from(User))).one()


@blocks
@pytest.mark.parametrize("verb", VERBS)
async def test_what_commits_is_refused(sessions: Sessions, issued: IssuedToken, block: Open, verb: str) -> None:
    """A verb that would commit raises an error, writes and commits nothing, and leaves the block usable."""
    async with block(sessions) as session:
        knox = Knox(session=session, user=await only_user(session))
        session.add(User(email="new@example.org", hashed_password="hash"))

        with pytest.raises(KnoxError, match="without begin"):
            await VERBS[verb](knox, issued)

        still_open = await count_users(session)
        await session.run_sync(lambda synchronous: synchronous.close())  # as if the block had raised
    async with sessions() as session:
        stored = (await session.scalars(select(KnoxToken))).all()
        users = await count_users(session)
    assert (still_open, users) == (2, 1)
    assert [(row.id, row.digest) for row in stored] == [(issued.record.id, stored[0].digest)]
    assert [row.last_used_at for row in stored] == [None]


@blocks
async def test_reading_works(sessions: Sessions, issued: IssuedToken, block: Open) -> None:
    """Inside a block, a token whose refresh is due is accepted, sessions are listed, and the transaction stays open."""
    async with block(sessions) as session:
        knox = Knox(session=session, user=await only_user(session))
        knox.clock.now += HOUR

        assert await knox.strategy(REFRESHING).read_token(issued, knox.user_manager) is knox.user
        assert len(await knox.strategy().list_records(knox.user)) == 1

        assert session.in_transaction()


async def test_an_idle_session_that_does_not_begin_by_itself(sessions: Sessions, issued: IssuedToken) -> None:
    """Between two `begin()` blocks, the store can begin and commit in a session with `autobegin=False`."""
    async with sessions(autobegin=False, expire_on_commit=False) as session:
        async with session.begin():
            user = await only_user(session)

        ended = await Knox(session=session, user=user).strategy().logout_all(user)

        assert ended == 1
        assert not session.in_transaction()
    assert issued
