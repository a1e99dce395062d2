"""Measure requests over HTTP: to uvicorn with each strategy's application, and to gunicorn with django-rest-knox."""

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager

import uvloop
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.django_rest_knox import django_rest_knox
from benchmarks.load import GENERATORS, Generate, generator
from benchmarks.measure import Scale, Series, Servers
from benchmarks.peers import (
    DJANGO_REST_KNOX,
    NO_AUTHENTICATION,
    RECORD_ALONE,
    SETTINGS,
    SLIDING,
    SLIDING_SETTINGS,
    our_strategies,
    strategies,
)
from benchmarks.setting import client, create_user, database, report_if_unavailable
from benchmarks.sites import Site, command_in, serving

UVICORN = (
    *(sys.executable, "-m", "uvicorn", "benchmarks.web:app"),
    *("--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning"),
)


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure with the users in PostgreSQL."""
    url = servers.databases.get("PostgreSQL")
    if url is None:
        return
    for subject, values in uvloop.run(_measure(url, servers.redis, scale)).items():
        yield Series(case="request over HTTP", group="PostgreSQL", subject=subject, unit="requests/s", values=values)


async def _measure(url: str, redis_url: str | None, scale: Scale) -> dict[str, tuple[float, ...]]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(database(url))
        redis = await stack.enter_async_context(client(redis_url))
        tokens = {NO_AUTHENTICATION: ""} | await log_in(engine, redis)
        sites = {
            subject: stack.enter_context(uvicorn(subject, token, url, redis_url)) for subject, token in tokens.items()
        }
        with report_if_unavailable():
            sites[DJANGO_REST_KNOX] = stack.enter_context(django_rest_knox(url))
        return await take_turns(sites, scale, GENERATORS[generator()])


async def log_in(engine: AsyncEngine, redis: Redis | None) -> dict[str, str]:
    """Log a user in by each strategy, and return the tokens."""
    user = await create_user(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        makes = {
            **strategies(redis),
            **our_strategies(redis, SLIDING_SETTINGS, SLIDING),
            **our_strategies(redis, SETTINGS, RECORD_ALONE),
        }
        return {name: await make(session).write_token(user) for name, make in makes.items()}


@contextmanager
def uvicorn(subject: str, token: str, url: str, redis_url: str | None) -> Iterator[Site]:
    """Serve a strategy's application with one process."""
    environment = {"SUBJECT": subject, "DATABASE_URL": url, "REDIS_URL": redis_url or ""}
    with serving(command_in(environment, *UVICORN), port_option="--port={}", token=token) as site:
        yield site


async def take_turns(sites: Mapping[str, Site], scale: Scale, generate: Generate) -> dict[str, tuple[float, ...]]:
    """Load the servers in turns, and return the requests per second that each has answered.

    The order differs from round to round. Before the first round, each server has one turn that does not count.
    """
    rates: dict[str, list[float]] = {name: [] for name in sites}
    for site in sites.values():
        await generate(site, scale.seconds)
    for _ in range(scale.http_rounds):
        for name in random.sample(sorted(sites), len(sites)):
            rates[name].append(await generate(sites[name], scale.seconds))
    return {name: tuple(values) for name, values in rates.items()}
