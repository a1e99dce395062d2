"""While an account is attacked, its user's own devices can log in, and nobody else can pass as one of them."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxSettings
from fastapi_users_knox.throttling import LoginThrottle
from tests.backends import REDIS, SERVERS, SQLITE
from tests.models import User
from tests.site import ADA, bearing
from tests.strategies import DAY, sent_to, unknown_token
from tests.throttling.site import ELSEWHERE, HOME, ThrottledWorld

pytestmark = pytest.mark.anyio

EVE = "eve@example.org"
CAFE = "203.0.113.5"


@pytest.fixture
def world(world: ThrottledWorld) -> ThrottledWorld:
    """Let two attempts an hour use up an account's limit, and leave the others unlimited."""
    throttle = LoginThrottle(per_account_and_address=(), per_address=(), per_account=("2/hour",))
    return replace(world, throttle=throttle)


async def attacked(world: ThrottledWorld) -> None:
    """Use up the limit of Ada's account from another address."""
    assert await world.visitor(ELSEWHERE).guesses(3) == [400, 400, 429]


async def test_a_new_device_is_refused(world: ThrottledWorld, ada: User) -> None:
    """Once the limit of the account is reached, an unknown client is refused even with the right password."""
    del ada
    await attacked(world)

    assert (await world.visitor(CAFE).log_in()).status == 429


@pytest.mark.parametrize("any_backend", [*SQLITE, *SERVERS, *REDIS], indirect=True)
async def test_every_store_proves_who_is_known(world: ThrottledWorld, ada: User) -> None:
    """On each store of tokens, a known address and a live token are admitted, and another client is refused."""
    del ada
    token = await world.visitor(HOME).token()
    await attacked_from_two(world)

    new_device = await world.visitor(CAFE).log_in()
    at_home = await world.visitor(HOME).log_in()
    with_token = await world.visitor(CAFE, **bearing(token)).log_in()

    assert (new_device.status, at_home.status, with_token.status) == (429, 200, 200)


async def test_the_address_of_a_live_session_is_known(world: ThrottledWorld, ada: User) -> None:
    """A request from the address of a live session is admitted; other sessions of the user do not matter."""
    del ada
    for address in (HOME, CAFE):
        await world.visitor(address).log_in()
    await attacked_after_logins(world)

    assert (await world.visitor(HOME).log_in()).status == 200
    assert (await world.visitor("192.0.2.2").log_in()).status == 429


async def attacked_after_logins(world: ThrottledWorld) -> None:
    """Use up what two logins have left of the limit."""
    assert await world.visitor(ELSEWHERE).guess() == 429


async def test_what_is_known_does_not_count(world: ThrottledWorld, ada: User) -> None:
    """The attempts of a known client do not use up the limit of the account for others."""
    del ada
    await world.visitor(HOME).log_in()

    at_home = await world.visitor(HOME).guesses(5)

    assert at_home == [400] * 5
    assert (await world.visitor(CAFE).log_in()).status == 200


async def test_the_network_of_a_live_session_is_known(world: ThrottledWorld, ada: User) -> None:
    """A device whose IPv6 address has changed within its /64 is still known."""
    del ada
    await world.visitor("2001:db8::1").log_in()
    await world.visitor(ELSEWHERE).guesses(2)

    assert (await world.visitor("2001:db8::2").log_in()).status == 200


@pytest.mark.parametrize("header", ["Authorization", "Cookie", "X-Old-Token"])
async def test_a_live_token_is_known(world: ThrottledWorld, ada: User, header: str) -> None:
    """A request that presents a live token of the user is admitted from any address, whichever header has the token."""
    del ada
    token = await world.visitor(HOME).token()
    await attacked_from_two(world)

    answer = await world.visitor(CAFE, **{header: f"knox={token}"}).log_in()

    assert answer.status == 200


async def attacked_from_two(world: ThrottledWorld) -> None:
    """Use up what one login has left of the limit."""
    assert await world.visitor(ELSEWHERE).guesses(2) == [400, 429]


async def test_a_token_must_be_live(world: ThrottledWorld, ada: User) -> None:
    """Neither an invented token nor an expired or a revoked one makes a client known."""
    expired = await world.visitor(HOME).token()
    world.clock.now += DAY
    revoked = await world.visitor(HOME).token()
    async with world.database.session() as session, world.database.store(session) as store:
        await world.strategy("knox", store, session, None).logout_all(ada)
    await world.visitor(ELSEWHERE).guesses(1)

    for token in (expired, revoked, unknown_token(ada)):
        assert (await world.visitor(CAFE, **bearing(token)).log_in()).status == 429


async def test_the_address_of_a_session_that_has_ended_is_not_known(world: ThrottledWorld, ada: User) -> None:
    """An address is known only while one of its sessions is live."""
    del ada
    await world.visitor(HOME).log_in()
    world.clock.now += DAY
    await world.visitor(ELSEWHERE).guesses(1)

    assert (await world.visitor(HOME).log_in()).status == 429


async def test_the_token_of_another_user_proves_nothing(world: ThrottledWorld, ada: User) -> None:
    """A live token or a session of another user does not make a client known to this account."""
    del ada
    await world.database.create_user(EVE)
    answer = await world.visitor(CAFE).log_in(EVE)
    token = answer.body.split(b'"')[3].decode()
    await attacked(world)

    assert token.startswith("knox_")
    assert (await world.visitor(CAFE, **bearing(token)).log_in()).status == 429


async def test_the_name_of_a_device_proves_nothing(world: ThrottledWorld, ada: User) -> None:
    """The name, the id and the user agent of a known device do not make a client known."""
    del ada
    claims = {"X-Device-Id": "phone-1", "X-Device-Name": "Ada's phone", "User-Agent": "Phone/1.0"}
    await world.visitor(HOME, **claims).log_in()
    await attacked_from_two(world)

    assert (await world.visitor(CAFE, **claims).log_in()).status == 429


async def test_many_invented_tokens_cost_few_reads(world: ThrottledWorld, ada: User) -> None:
    """Only the first sixteen tokens of a request are looked up, so that nobody makes an attempt expensive."""
    token = await world.visitor(HOME).token()
    await attacked_from_two(world)
    decoys = [unknown_token(ada) for _ in range(16)]

    hidden = await world.visitor(CAFE, Cookie=";".join([*decoys, token])).log_in()
    found = await world.visitor(CAFE, Cookie=";".join([*decoys[1:], token])).log_in()

    assert (hidden.status, found.status) == (429, 200)


async def test_a_known_address_saves_no_reads(world: ThrottledWorld, ada: User, engine: AsyncEngine) -> None:
    """Somebody at the user's address, with invented tokens, cannot find out by the queries that the account exists."""
    await world.visitor(HOME).log_in()
    visitor = world.visitor(HOME, Cookie=";".join(unknown_token(ada) for _ in range(3)))

    with sent_to(engine) as for_known:
        known = await visitor.guess()
    with sent_to(engine) as for_unknown:
        unknown = await visitor.guess(EVE)

    assert known == unknown == 400
    assert len(for_known) == len(for_unknown)


async def test_an_audience_has_its_own_sessions(world: ThrottledWorld, ada: User) -> None:
    """A session of an audience whose strategy the user manager does not have proves nothing."""
    del ada
    other = replace(world, settings={"knox": KnoxSettings(audience="other")})
    await other.visitor(HOME).log_in()
    await attacked_from_two(world)

    assert (await world.visitor(HOME).log_in(ADA)).status == 429
