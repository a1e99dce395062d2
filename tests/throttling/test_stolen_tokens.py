"""Whoever has stolen a token of the user has one more limit of the account, and locks no other device out."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from fastapi_users_knox import KnoxEvent, KnoxSettings, KnoxStrategy, LoginThrottled, TooManyAttempts
from fastapi_users_knox.throttling import LoginThrottle
from tests.backends import REDIS, SERVERS, SQLITE
from tests.models import User
from tests.site import ADA, PASSWORDS, bearing
from tests.strategies import request
from tests.throttling.attack import addresses_of
from tests.throttling.site import ELSEWHERE, HOME, Manager, ThrottledWorld

pytestmark = pytest.mark.anyio

CAFE = "203.0.113.5"
LIMIT = 5
USED_UP = [400] * LIMIT + [429]


@pytest.fixture
def world(world: ThrottledWorld) -> ThrottledWorld:
    """Let five attempts an hour use up an account's limit, and leave the others unlimited."""
    throttle = LoginThrottle(per_account_and_address=(), per_address=(), per_account=(f"{LIMIT}/hour",))
    return replace(world, throttle=throttle)


async def guesses(world: ThrottledWorld, token: str | None, number: int = LIMIT + 1) -> Sequence[int]:
    """Guess the password once from each of several addresses, presenting a token, and return the statuses."""
    headers = {} if token is None else bearing(token)
    return [await world.visitor(address, **headers).guess() for address in addresses_of(number)]


@pytest.mark.parametrize("any_backend", [*SQLITE, *SERVERS, *REDIS], indirect=True)
async def test_a_stolen_token_is_limited_from_all_addresses_together(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """Whatever stores the tokens, the guesses that present one token have one limit, reported as the account's."""
    del ada
    token = await world.visitor(HOME).token()

    statuses = await guesses(world, token)

    assert statuses == USED_UP
    throttled = events[-1]
    assert isinstance(throttled, LoginThrottled)
    assert (throttled.counter, throttled.limit) == ("account", "5 per 1 hour")


async def test_a_thief_has_one_more_limit(world: ThrottledWorld, ada: User) -> None:
    """A thief who also guesses without the token has the limit of the account twice, and not more."""
    del ada
    token = await world.visitor(HOME).token()
    await guesses(world, token)

    without_token = await guesses(world, None)

    assert without_token == [*[400] * (LIMIT - 1), 429, 429]  # Ada's own login has counted too.
    assert await guesses(world, token) == [429] * (LIMIT + 1)


async def test_the_user_is_not_locked_out_by_a_thief(world: ThrottledWorld, ada: User) -> None:
    """While a thief's guesses are refused, the user logs in with another session's token, and on a new device."""
    del ada
    stolen, own = await world.visitor(HOME).token(), await world.visitor(HOME).token()
    await guesses(world, stolen)

    with_own_token = await world.visitor(CAFE, **bearing(own)).log_in()
    on_new_device = await world.visitor(ELSEWHERE).log_in()

    assert (with_own_token.status, on_new_device.status) == (200, 200)


async def test_an_api_token_proves_nothing(world: ThrottledWorld, ada: User) -> None:
    """A client with an API token, and one at the address where it was issued, are as unknown as any other."""
    async with world.database.session() as session, world.database.store(session) as store:
        at_home = request(client=HOME)
        strategy = KnoxStrategy(store, request=at_home, user_db=world.user_db(session), clock=world.clock)
        token = await strategy.issue(await session.merge(ada), scopes={"reports:read"})

    await guesses(world, None)
    with_token = await world.visitor(ELSEWHERE, **bearing(token)).log_in()
    at_that_address = await world.visitor(HOME).log_in()

    assert (with_token.status, at_that_address.status) == (429, 429)


async def test_two_devices_do_not_share_a_counter(world: ThrottledWorld, ada: User) -> None:
    """Each session's token has all attempts, whatever was attempted with another."""
    del ada
    phone, laptop = await world.visitor(HOME).token(), await world.visitor(HOME).token()

    by_phone, by_laptop = await guesses(world, phone), await guesses(world, laptop)

    assert by_phone == by_laptop == USED_UP


async def test_at_a_known_address_a_token_does_not_count(world: ThrottledWorld, ada: User) -> None:
    """At the address of the session, the user logs in although a thief has used up the counter of the token."""
    del ada
    token = await world.visitor(HOME).token()
    await guesses(world, token)

    at_home = world.visitor(HOME, **bearing(token))

    assert await at_home.guesses(LIMIT + 1) == [400] * (LIMIT + 1)
    assert (await at_home.log_in()).status == 200


async def test_an_address_known_to_any_strategy_comes_first(world: ThrottledWorld, ada: User) -> None:
    """A client that one strategy knows by its token, and another by its address, counts as known by its address."""
    async with world.database.session() as session, world.database.store(session) as store:
        strategy = partial(KnoxStrategy, store, clock=world.clock)
        web, api = KnoxSettings(audience="web"), KnoxSettings(audience="api")
        token = await strategy(web, request=request(client=CAFE)).issue(ada)
        await strategy(api, request=request(client=HOME)).issue(ada)
        connection = request(*bearing(token).items(), client=HOME)
        knox = [strategy(settings, request=connection) for settings in (web, api)]
        manager = Manager(world.user_db(session), PASSWORDS, knox=knox, throttle=world.throttle)

        outcomes = [await manager.attempt_login(ADA, wrong) for _ in range(LIMIT + 1)]

    assert outcomes == [None] * (LIMIT + 1)


async def wrong() -> None:
    """Check a proof, which is wrong."""


async def test_rotation_gives_no_new_attempts(world: ThrottledWorld, ada: User) -> None:
    """A thief who rotates the token has as many attempts left as before."""
    token = await world.visitor(HOME).token()
    await guesses(world, token)

    async with world.database.session() as session, world.database.store(session) as store:
        rotated = await world.strategy("knox", store, session, None).rotate_token(token, ada)

    assert rotated != token
    assert await guesses(world, rotated, 1) == [429]


async def test_sessions_give_no_new_attempts_at_a_second_factor(world: ThrottledWorld, ada: User) -> None:
    """Whoever knows the password has new tokens and known addresses with each login, but one limit for the codes."""
    del ada
    token, outcomes = await world.visitor(HOME).token(), []
    for address in addresses_of(LIMIT + 1):
        token = await world.visitor(address, **bearing(token)).token()

        outcomes += [await second_factor(world, token, client) for client in (address, CAFE)]

    assert outcomes == ["wrong"] * LIMIT + ["refused"] * (LIMIT + 2)


async def second_factor(world: ThrottledWorld, token: str, address: str) -> str:
    """Prove a second factor wrongly, with a token and from an address, and return what happened."""
    connection = request(*bearing(token).items(), client=address)
    async with world.database.session() as session, world.database.store(session) as store:
        try:
            await world.manager(session, store, connection).attempt_login(ADA, wrong, action="reauthentication")
        except TooManyAttempts:
            return "refused"
    return "wrong"
