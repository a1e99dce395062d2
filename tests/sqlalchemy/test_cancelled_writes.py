"""A write that is cancelled is either done or not done at all, and the session can still be used."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio
import pytest
from sqlalchemy import event, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxSettings, TokenLimitReached
from tests.models import KnoxToken, User, create_user
from tests.strategies import Knox, stored

pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "any_backend",
        [
            *("sqlite-memory", "sqlite", "sqlite-wal-begin", "postgresql-asyncpg", "postgresql-psycopg"),
            *("postgresql-repeatable-read", "mariadb"),
        ],
        indirect=True,
    ),
]

LIMITED = KnoxSettings(token_limit_per_user=1, limit_policy="evict_oldest")
FULL = KnoxSettings(token_limit_per_user=1)
STEPS = [
    *("begin", "savepoint", "before_cursor_execute", "after_cursor_execute"),
    *("release_savepoint", "rollback_savepoint", "commit", "rollback"),
]
Verb = Callable[[Knox], Awaitable[object]]


async def be_refused(knox: Knox) -> None:
    """Log in when the limit is reached, which is refused."""
    with pytest.raises(TokenLimitReached):
        await knox.strategy(FULL).issue(knox.user)


VERBS: dict[str, Verb] = {
    "refused login": be_refused,
    "login": lambda knox: knox.strategy(LIMITED).issue(knox.user),
    "logout-all": lambda knox: knox.strategy().logout_all(knox.user),
}


@contextmanager
def calling_at(
    engine: AsyncEngine, step: int, call: Callable[[], None], *, steps: Sequence[str] = STEPS
) -> Iterator[None]:
    """Call a function when the engine takes the step with this number, counted from 0."""
    left = iter(range(step, -1, -1))

    def count(*_: object) -> None:
        if next(left, None) == 0:
            call()

    for name in steps:
        event.listen(engine.sync_engine, name, count)
    try:
        yield
    finally:
        for name in steps:
            event.remove(engine.sync_engine, name, count)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "in a transaction"])
async def test_cancelled_at_each_step(engine: AsyncEngine, verb: str, *, is_idle: bool) -> None:
    """A write whose AnyIO scope is cancelled at any step is either done or not, and the session can still be used."""
    async with AsyncSession(engine) as session:
        user = await create_user(session)
        knox = Knox(session=session, user=user)
        step, cancelled = 0, True
        while cancelled:
            await session.refresh(user)
            await knox.strategy(LIMITED).issue(user)
            before = {row.digest for row in await stored(engine)}
            if not is_idle:
                await session.execute(select(func.count()).select_from(User))

            with anyio.CancelScope() as scope, calling_at(engine, step, scope.cancel):
                await VERBS[verb](knox)

            cancelled, step = scope.cancelled_caught, step + 1
            assert not session.in_transaction()
            assert user.email if is_idle else await session.get(User, inspect(user).identity) is user
            digests = {row.digest for row in await stored(engine)}
            assert digests == before or len(digests) == (0 if verb == "logout-all" else 1)
            assert await session.scalar(select(KnoxToken.__table__.c.id).limit(1)) is None or digests
    assert step > 3


async def test_giving_up_goes_to_its_end(engine: AsyncEngine) -> None:
    """If a request is cancelled during the rollback of its write, the connection goes back to the pool intact."""
    lost: list[object] = []
    event.listen(engine.sync_engine, "invalidate", lambda connection, *_: lost.append(connection))
    async with AsyncSession(engine) as session:
        knox = Knox(session=session, user=await create_user(session))
        await knox.strategy().issue(knox.user)

        with anyio.CancelScope() as scope, calling_at(engine, 0, scope.cancel, steps=["rollback"]):
            await be_refused(knox)

        assert scope.cancelled_caught
        assert not session.in_transaction()
    assert lost == []


async def test_what_fails_is_given_up(engine: AsyncEngine) -> None:
    """A write that raises stores nothing, but commits the application's own changes and expires none of its objects."""
    async with AsyncSession(engine) as session:
        knox = Knox(session=session, user=await create_user(session))
        await knox.strategy().issue(knox.user)
        session.add(User(email="new@example.org", hashed_password="hash"))

        await be_refused(knox)

        assert knox.user.email
        await session.rollback()
        assert (await session.scalars(select(func.count()).select_from(User))).one() == 2
