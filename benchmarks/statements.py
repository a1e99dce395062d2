"""Count the SQL statements and the round trips to Redis of each verb."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.counting import Counter, counter
from benchmarks.filling import NOW, Place, create_users, log_in
from benchmarks.growth import of_user
from benchmarks.measure import Scale, Series, Servers
from benchmarks.models import User, UserManager
from benchmarks.peers import SETTINGS, Knox, user_manager_on
from benchmarks.setting import client, database
from fastapi_users_knox import KnoxSettings

CASE = "statements"
MANY = 100
LOGOUT_ALL_OF_MANY = f"logout-all, {of_user(MANY)}"


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An act with one token of a user.

    Attributes:
        act: Performs the act.
        settings: The settings of the strategy.
        now: The time of the act.
        count: The number of live tokens that the user has.
    """

    act: Callable[[Knox, UserManager, User, str], Awaitable[object]]
    settings: KnoxSettings = SETTINGS
    now: datetime = NOW
    count: int = 3


VERBS: Mapping[str, Verb] = {
    "read": Verb(act=lambda knox, users, _user, token: knox.read_token(token, users)),
    "read that refreshes": Verb(
        act=lambda knox, users, _user, token: knox.read_token(token, users),
        settings=KnoxSettings(auto_refresh=True),
        now=NOW + timedelta(hours=1),
    ),
    "read of junk": Verb(act=lambda knox, users, _user, token: knox.read_token(f"{token}!", users)),
    "login": Verb(act=lambda knox, _users, user, _token: knox.write_token(user)),
    "login, limited": Verb(
        act=lambda knox, _users, user, _token: knox.write_token(user), settings=KnoxSettings(token_limit_per_user=1000)
    ),
    "list": Verb(act=lambda knox, _users, user, _token: knox.list_records(user)),
    "rotation": Verb(act=lambda knox, _users, user, token: knox.rotate_token(token, user)),
    "logout": Verb(act=lambda knox, _users, user, token: knox.destroy_token(token, user)),
    "logout-all": Verb(act=lambda knox, _users, user, _token: knox.logout_all(user)),
    LOGOUT_ALL_OF_MANY: Verb(act=lambda knox, _users, user, _token: knox.logout_all(user), count=MANY),
}


def measure(servers: Servers, _scale: Scale) -> Iterator[Series]:
    """Count on each database, and also on Redis with the users in the first database."""
    for store, url in servers.databases.items():
        yield from _series(store, "statements", asyncio.run(statements(url)))
    if servers.redis is not None:
        some = next(iter(servers.databases.values()))
        yield from _series("Redis", "round trips", asyncio.run(round_trips(some, servers.redis)))


def _series(store: str, unit: str, counts: Mapping[str, int]) -> Iterator[Series]:
    for verb, count in counts.items():
        yield Series(case=CASE, group=store, subject=verb, unit=unit, values=(count,))


async def statements(url: str) -> dict[str, int]:
    """Count the SQL statements of each verb."""
    async with database(url) as engine:
        counting = Counter(engine=engine)
        return {name: (await _count(counting, verb))[0] for name, verb in VERBS.items()}


async def round_trips(url: str, redis_url: str) -> dict[str, int]:
    """Count the commands that each verb sends to Redis."""
    async with database(url) as engine, client(redis_url), counter(engine, redis_url) as counting:
        return {name: (await _count(counting, verb))[1] for name, verb in VERBS.items()}


async def _count(counting: Counter, verb: Verb) -> tuple[int, int]:
    """Count the second call, because Redis does not have the script before the first call."""
    await _act(counting, verb)
    return await _act(counting, verb)


async def _act(counting: Counter, verb: Verb) -> tuple[int, int]:
    place, user_id = Place(engine=counting.engine, redis=counting.redis, clock=lambda: verb.now), uuid.uuid4()
    kept = [log_in(user_id) for _ in range(verb.count)]
    await create_users(place.engine, [user_id])
    await place.keep(kept)
    async with place.session() as session:
        users = user_manager_on(session)
        user = await users.get(user_id)
        await session.commit()
        knox = place.knox(session, verb.settings)
        return await counting.count(lambda: verb.act(knox, users, user, kept[0].text))
