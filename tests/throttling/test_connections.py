"""What the throttle reads of a connection and notes there: the address of the client, and requests for mails."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fastapi.requests import HTTPConnection

from fastapi_users_knox import ClientInfo, KnoxStrategy, TooManyAttempts
from fastapi_users_knox.throttling import LoginThrottle
from tests.models import User
from tests.site import ADA
from tests.strategies import request
from tests.throttling.site import ELSEWHERE, HOME, ThrottledWorld

pytestmark = pytest.mark.anyio


async def refused(attempting: Callable[[], Awaitable[object]]) -> bool:
    """Return whether an attempt is refused because there were too many."""
    try:
        await attempting()
    except TooManyAttempts:
        return True
    return False


def broken(_: HTTPConnection) -> ClientInfo:
    """Fail to describe the client."""
    raise ZeroDivisionError


def anonymous(_: HTTPConnection) -> ClientInfo:
    """Describe the client without its address."""
    return ClientInfo(name="phone")


@dataclass(frozen=True, kw_only=True)
class DescribingWorld(ThrottledWorld):
    """A world whose strategies describe the client in the application's own way."""

    describe: Callable[[HTTPConnection], ClientInfo]

    def strategy(self, backend: str, store: Any, session: Any, request: HTTPConnection | None) -> Any:
        """Return a request's strategy."""
        del backend
        user_db = self.user_db(session)
        return KnoxStrategy(store, request=request, user_db=user_db, clock=self.clock, describe_client=self.describe)


@pytest.mark.parametrize("describe", [broken, anonymous])
async def test_the_address_is_that_of_the_connection(
    world: ThrottledWorld, ada: User, describe: Callable[[HTTPConnection], ClientInfo]
) -> None:
    """If `describe_client` raises or leaves the address out, the address from which the request comes is limited."""
    del ada
    describing = DescribingWorld(database=world.database, describe=describe)

    at_home = await describing.visitor(HOME).guesses(6)

    assert at_home == [400] * 5 + [429]
    assert (await describing.visitor(ELSEWHERE).log_in()).status == 200


async def mails(world: ThrottledWorld, user: User, connection: HTTPConnection, *, number: int) -> list[bool]:
    """Request several mails in one connection, and return which of them are refused."""
    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, connection)
        return [await refused(lambda: manager.forgot_password(user)) for _ in range(number)]


async def test_a_request_counts_once(world: ThrottledWorld, ada: User) -> None:
    """However often one request asks for the mail of an account, it counts once."""
    world = replace(world, throttle=LoginThrottle(per_account=("1/hour",)))

    assert await mails(world, ada, request(), number=2) == [False, False]
    assert await mails(world, ada, request(), number=1) == [True]


async def test_a_refused_request_stays_refused(world: ThrottledWorld, ada: User) -> None:
    """A request that was refused is not admitted when it asks again."""
    world = replace(world, throttle=LoginThrottle(per_account=("1/hour",)))
    await mails(world, ada, request(), number=1)

    assert await mails(world, ada, request(), number=2) == [True, True]


async def test_each_mail_of_a_websocket_counts(world: ThrottledWorld, ada: User) -> None:
    """A WebSocket stays open for many requests, so each of its mails counts."""
    world = replace(world, throttle=LoginThrottle(per_account=("2/hour",)))
    connection = HTTPConnection({"type": "websocket", "headers": [], "client": (HOME, 1234)})

    assert await mails(world, ada, connection, number=3) == [False, False, True]


async def test_the_scope_does_not_hold_the_address(world: ThrottledWorld, ada: User) -> None:
    """What is noted in the scope, which an application may log, does not contain the e-mail address."""
    connection = request()
    before = set(connection.scope)

    await mails(world, ada, connection, number=1)

    noted = {name: value for name, value in connection.scope.items() if name not in before}
    assert noted
    assert ADA not in repr(noted)
