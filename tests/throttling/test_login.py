"""Over HTTP, FastAPI-Users' own login route is throttled, and says nothing about who has an account."""

import uuid
from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, LoginFailed, LoginThrottled, TokenIssued
from fastapi_users_knox.throttling import LoginThrottle
from tests.asgi import Answer
from tests.models import User
from tests.site import ADA
from tests.strategies import sent_to, stored
from tests.throttling.site import ELSEWHERE, HOME, WRONG, Manager, ThrottledWorld

pytestmark = pytest.mark.anyio

EVE = "eve@example.org"


def seen(answer: Answer) -> tuple[int, bytes, frozenset[bytes]]:
    """Return what a client sees of a response, except the seconds of `Retry-After`."""
    return answer.status, answer.body, frozenset(answer.headers)


async def test_too_many_attempts_are_refused(world: ThrottledWorld, ada: User, engine: AsyncEngine) -> None:
    """After five wrong passwords not even the right one is checked: 429, with the time to wait and without a hash."""
    del ada
    visitor = world.visitor()

    statuses = await visitor.guesses(5)
    hashes = len(world.notes)
    answer = await visitor.log_in()

    assert statuses == [400] * 5
    assert (answer.status, answer.body) == (429, b'{"detail":"LOGIN_THROTTLED"}')
    assert 1 <= int(answer.headers[b"retry-after"]) <= 61
    assert (hashes, len(world.notes)) == (5, 5)
    assert await stored(engine) == []


async def test_other_addresses_are_not_refused(world: ThrottledWorld, ada: User) -> None:
    """What one address has used up, another address still has."""
    del ada
    await world.visitor().guesses(6)

    assert (await world.visitor(ELSEWHERE).log_in()).status == 200


async def test_the_forwarded_address_is_not_trusted(world: ThrottledWorld, ada: User) -> None:
    """A client cannot choose its address by a header."""
    del ada

    statuses = [await world.visitor(**{"X-Forwarded-For": f"203.0.113.{number}"}).guess() for number in range(6)]

    assert statuses == [400] * 5 + [429]


async def test_an_unknown_account_is_treated_alike(world: ThrottledWorld, ada: User, engine: AsyncEngine) -> None:
    """An account of nobody gets the same responses at the same attempts, with as many hashes and the same queries."""
    del ada
    answers: dict[str, Any] = {}
    for email, address in ((ADA, HOME), (EVE, ELSEWHERE)):
        world.notes.clear()
        with sent_to(engine) as statements:
            answers[email] = [seen(await world.visitor(address).log_in(email, WRONG)) for _ in range(7)]
        answers[email] += [world.notes.copy(), statements]

    assert answers[ADA] == answers[EVE]
    assert answers[ADA][7] == ["hash"] * 5


async def test_a_success_gives_new_attempts(world: ThrottledWorld, ada: User) -> None:
    """After a login the account has five attempts from this address again."""
    del ada
    visitor = world.visitor()

    before, success = await visitor.guesses(4), await visitor.log_in()
    after = await visitor.guesses(6)

    assert (before, success.status, after) == ([400] * 4, 200, [400] * 5 + [429])


async def test_the_password_of_an_inactive_user_is_no_success(
    world: ThrottledWorld, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The right password of a deactivated account counts as a failure; otherwise the counters would confirm it."""
    user = await world.database.create_user(is_active=False)
    visitor = world.visitor()

    statuses = [(await visitor.log_in()).status for _ in range(6)]

    assert statuses == [400] * 5 + [429]
    assert [(type(event), event.user_id) for event in events] == [(LoginFailed, user.id)] * 5 + [
        (LoginThrottled, user.id)
    ]


# events


async def test_what_is_published(world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """A failure and a refusal are published with the user's id and the address, and a refusal with its limit."""
    visitor = world.visitor()

    await visitor.guesses(6)

    failed, throttled = events[0], events[-1]
    assert isinstance(failed, LoginFailed)
    assert isinstance(throttled, LoginThrottled)
    assert (failed.user_id, failed.action, failed.client.ip_address) == (ada.id, "login", HOME)
    assert (throttled.user_id, throttled.action, throttled.client.ip_address) == (ada.id, "login", HOME)
    assert (throttled.counter, throttled.limit) == ("account_and_address", "5 per 1 minute")
    assert 1 <= throttled.retry_after <= 61
    assert [type(event) for event in events[:-1]] == [LoginFailed] * 5


async def test_what_was_typed_is_not_published(world: ThrottledWorld, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """No event has the password, nor the e-mail address of nobody, which may be a password typed in the wrong field."""
    await world.visitor().guesses(6, EVE)

    assert [event.user_id for event in events] == [None] * 6
    for event in events:
        assert event.request is not None
        held = repr(asdict(replace(event, request=None))) + repr(vars(event.request))
        assert EVE not in held
        assert WRONG not in held


async def test_a_login_publishes_no_failure(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A login with the right password publishes only its token."""
    del ada

    await world.visitor().log_in()

    assert [type(event) for event in events] == [TokenIssued]


async def test_without_a_throttle_failures_are_published(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """Without a throttle nothing is refused, and failures are published all the same."""
    visitor = replace(world, throttle=None).visitor()

    statuses = await visitor.guesses(7)
    await visitor.guess(EVE)

    assert statuses == [400] * 7
    assert [event.user_id for event in events] == [ada.id] * 7 + [None]


# application's own managers


class OwnManager(Manager):
    """A user manager that checks passwords in its own way, without calling `super()`."""

    async def authenticate(self, credentials: Any) -> User | None:
        """Accept one password of all users."""
        return await self.get_by_email(credentials.username) if credentials.password == "the master's" else None


class CallingManager(Manager):
    """A user manager that does more and then calls `super()`."""

    async def authenticate(self, credentials: Any) -> User | None:
        """Note the attempt."""
        self.notes.append(credentials.username)
        return await super().authenticate(credentials)

    async def get_by_email(self, user_email: str) -> User:
        """Accept a nickname."""
        return await super().get_by_email({"ada": ADA}.get(user_email, user_email))


@pytest.mark.parametrize("kind", [OwnManager, CallingManager])
async def test_an_override_is_throttled(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]], kind: type[Manager]
) -> None:
    """An `authenticate` of the application is throttled, and counted and published once, whether it calls `super()`."""
    del ada
    visitor = replace(world, kind=kind).visitor()

    statuses = await visitor.guesses(6)

    assert statuses == [400] * 5 + [429]
    assert [type(event) for event in events] == [LoginFailed] * 5 + [LoginThrottled]


async def test_all_names_of_an_account_count_together(world: ThrottledWorld, ada: User) -> None:
    """Where an account has several names, an attacker has no new attempts with each of them."""
    del ada
    visitor = replace(world, kind=CallingManager).visitor()

    await visitor.guesses(5)

    assert await visitor.guess("ada") == 429


async def test_the_server_may_not_know_the_address(world: ThrottledWorld, ada: User) -> None:
    """Over a Unix socket without a proxy's address, only the limit of the account applies."""
    del ada
    visitor = replace(world, throttle=LoginThrottle(per_account=("7/hour",))).visitor(None)

    assert await visitor.guesses(8) == [400] * 7 + [429]
