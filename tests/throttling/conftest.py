"""Fixtures for the tests of the throttle: each kind of storage."""

from collections.abc import AsyncIterator

import pytest

from tests.throttling.places import PLACES, Place

OTHERS = [pytest.param(name, marks=pytest.mark.unmeasured) for name in ("redis-6.2", "valkey", "valkey-client")]


@pytest.fixture(params=["memory", "redis-7", *OTHERS])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Return each kind of storage, empty."""
    fixture, open_place = PLACES[request.param]
    servers = [] if fixture is None else [request.getfixturevalue(fixture).url()]
    async with open_place(*servers) as place:
        yield place
