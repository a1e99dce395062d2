"""Measure how the growth of the table, and of one user's tokens, affects each verb, in process."""

import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import uvloop
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.filling import Kept, Place, create_users, fill, log_in
from benchmarks.measure import Scale, Series, Servers, Trial, interleave
from benchmarks.models import User
from benchmarks.peers import SETTINGS, user_manager_on
from benchmarks.setting import client, database, database_beside, vacuum
from fastapi_users_knox import KnoxSettings

TABLE = "growth of the table"
USER = "growth of one user"
PURGED = 1000  # the number of expired tokens
LIMIT = KnoxSettings(token_limit_per_user=1_000_000, limit_policy="evict_oldest")  # a limit that is never reached

_MANY = 100_000  # more tokens would take too long, to store in MariaDB and SQLite and to purge in Redis
_SLOW_VERBS = {"purge", "login, limited", "list", "logout", "logout-all"}
_FEW = 3  # the number of calls of these verbs, and of rounds of the slowest verb

Trials = dict[str, dict[str, Trial]]


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure each database, and also Redis with the users in the first database."""
    for store, urls in servers.stores.items():
        yield from uvloop.run(_measure_table(store, *urls, scale))
        yield from uvloop.run(_measure_user(store, *urls, scale))


async def _measure_table(store: str, url: str, redis_url: str | None, scale: Scale) -> list[Series]:
    async with AsyncExitStack() as stack:
        places = {
            of_table(count): (await stack.enter_async_context(_place(url, redis_url, number)), count)
            for number, count in enumerate(scale.tokens)
            if store in {"PostgreSQL", "Redis"} or count <= _MANY
        }
        trials: Trials = {}
        for subject, (place, count) in places.items():
            known = await fill(place, count)
            await vacuum(place.engine)
            for verb, trial in table_trials(place, known).items():
                if verb != "purge" or store != "Redis" or count <= _MANY:
                    trials.setdefault(verb, {})[subject] = trial
        return await _series(TABLE, store, trials, scale)


async def _measure_user(store: str, url: str, redis_url: str | None, scale: Scale) -> list[Series]:
    async with database(url) as engine, client(redis_url) as redis:
        place, trials = Place(engine=engine, redis=redis), Trials()
        users = {count: uuid4() for count in scale.tokens_of_one}
        await create_users(engine, users.values())
        for count, user_id in users.items():
            kept = [log_in(user_id) for _ in range(count)]
            await place.keep(kept)
            for verb, trial in user_trials(place, kept).items():
                trials.setdefault(verb, {})[of_user(count)] = trial
        await vacuum(engine)
        return await _series(USER, store, trials, scale)


def of_table(count: int) -> str:
    """Return the name of a table with this many tokens."""
    return f"{count:,} tokens"


def of_user(count: int) -> str:
    """Return the name of a user with this many live tokens."""
    return f"{count:,} live token{'' if count == 1 else 's'}"


async def _series(case: str, store: str, trials: Trials, scale: Scale) -> list[Series]:
    """Measure one verb after the other; for each verb the subjects take turns."""
    series = []
    for verb, subjects in trials.items():
        group = f"{store}: {verb}"
        calls = min(_FEW, scale.calls) if verb in _SLOW_VERBS else scale.calls
        rounds = min(_FEW, scale.rounds) if group == "Redis: purge" else scale.rounds
        for subject, values in (await interleave(subjects, rounds=rounds, calls=calls)).items():
            series.append(Series(case=case, group=group, subject=subject, unit="ms", values=values))
    return series


@asynccontextmanager
async def _place(url: str, redis_url: str | None, number: int) -> AsyncIterator[Place]:
    """Return a separate database and a separate Redis database on the shared servers."""
    redis_url = redis_url and urlsplit(redis_url)._replace(path=f"/{number}").geturl()
    async with database_beside(url, number) as beside, database(beside) as engine, client(redis_url) as redis:
        yield Place(engine=engine, redis=redis)


def table_trials(place: Place, known: Sequence[Kept]) -> Mapping[str, Trial]:
    """Return the trials with a table, by verb; each call chooses a user at random."""
    users = [one.record.user_id for one in known]
    return {"read": _read(place, known), "login": _login(place, users), "purge": _purge(place, users)}


def user_trials(place: Place, kept: Sequence[Kept]) -> Mapping[str, Trial]:
    """Return the trials with the user who has this number of tokens, by verb."""
    user_id = kept[0].record.user_id
    return {
        "read": _read(place, kept),
        "login": _login(place, [user_id]),
        "login, limited": _login(place, [user_id], LIMIT),
        "list": _list(place, user_id, len(kept)),
        "logout": _logout(place, user_id),
        "logout-all": _logout_all(place, kept),
    }


async def _load(place: Place, user_id: UUID) -> tuple[AsyncSession, User]:
    """Open a session and load the user, because a request does so before it logs in or out."""
    session = place.session()
    return session, await user_manager_on(session).get(user_id)


def _read(place: Place, known: Sequence[Kept]) -> Trial:
    async def prepare() -> Kept:
        return random.choice(known)

    async def run(kept: Kept) -> None:
        async with place.session() as session:
            user = await place.knox(session).read_token(kept.text, user_manager_on(session))
            assert user is not None

    return Trial(run=run, prepare=prepare)


def _login(place: Place, users: Sequence[UUID], settings: KnoxSettings = SETTINGS) -> Trial:
    async def run(loaded: tuple[AsyncSession, User]) -> tuple[User, str]:
        session, user = loaded
        async with session:
            return user, await place.knox(session, settings).write_token(user)

    async def finish(issued: tuple[User, str]) -> None:
        user, token = issued
        await place.forget(user.id, token)

    return Trial(run=run, prepare=lambda: _load(place, random.choice(users)), finish=finish)


def _purge(place: Place, users: Sequence[UUID]) -> Trial:
    async def prepare() -> None:
        expired = [log_in(random.choice(users), ttl=-timedelta(hours=1), is_known=False) for _ in range(PURGED)]
        await place.keep(expired)

    async def run(_: None) -> None:
        async with place.session() as session:
            assert await place.knox(session).purge() == PURGED

    return Trial(run=run, prepare=prepare)


def _list(place: Place, user_id: UUID, count: int) -> Trial:
    async def run(loaded: tuple[AsyncSession, User]) -> None:
        session, user = loaded
        async with session:
            assert len(await place.knox(session).list_records(user)) == count

    return Trial(run=run, prepare=lambda: _load(place, user_id))


def _logout(place: Place, user_id: UUID) -> Trial:
    async def prepare() -> tuple[AsyncSession, User, Kept]:
        kept = log_in(user_id)
        await place.keep([kept])
        return *await _load(place, user_id), kept

    async def run(prepared: tuple[AsyncSession, User, Kept]) -> None:
        session, user, kept = prepared
        async with session:
            await place.knox(session).destroy_token(kept.text, user)

    return Trial(run=run, prepare=prepare)


def _logout_all(place: Place, kept: Sequence[Kept]) -> Trial:
    """Revoke all tokens, and store them again afterwards, so that each call finds the same number."""
    user_id = kept[0].record.user_id

    async def run(loaded: tuple[AsyncSession, User]) -> None:
        session, user = loaded
        async with session:
            assert await place.knox(session).logout_all(user) == len(kept)

    return Trial(run=run, prepare=lambda: _load(place, user_id), finish=lambda _: place.keep(kept))
