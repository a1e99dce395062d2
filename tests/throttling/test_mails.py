"""Requests for mails about a password or a verification are throttled, for known and unknown accounts alike."""

import uuid
from dataclasses import replace

import pytest
from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, LoginThrottled, TooManyAttempts
from fastapi_users_knox.throttling import LoginThrottle
from tests.models import User
from tests.site import ADA
from tests.strategies import sent_to
from tests.throttling.site import ELSEWHERE, HOME, Manager, ThrottledWorld

pytestmark = pytest.mark.anyio

EVE = "eve@example.org"
ROUTES = {"/forgot-password": "forgot_password", "/request-verify-token": "request_verify"}
every_route = pytest.mark.parametrize("path", ROUTES)


async def statuses(
    world: ThrottledWorld, path: str, email: str = ADA, *, number: int, address: str = HOME
) -> list[int]:
    """Send several requests for a mail, and return the statuses."""
    visitor = world.visitor(address)
    return [(await visitor.ask_for_mail(path, email)).status for _ in range(number)]


@every_route
async def test_too_many_mails_are_refused(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]], path: str
) -> None:
    """Each of five requests sends a mail; the sixth is refused with the time to wait, sends none, and is published."""
    assert await statuses(world, path, number=5) == [202] * 5

    answer = await world.visitor().ask_for_mail(path)

    assert (answer.status, answer.body) == (429, b'{"detail":"LOGIN_THROTTLED"}')
    assert 1 <= int(answer.headers[b"retry-after"]) <= 61
    assert world.notes.count("mail") == 5
    [event] = events
    assert isinstance(event, LoginThrottled)
    assert (event.user_id, event.action) == (ada.id, ROUTES[path])


@every_route
async def test_an_unknown_account_is_treated_alike(
    world: ThrottledWorld, ada: User, engine: AsyncEngine, path: str
) -> None:
    """For an account of nobody the same requests are admitted and refused, with the same queries."""
    del ada
    known, unknown = [], []
    with sent_to(engine) as for_known:
        known = await statuses(world, path, number=7)
    with sent_to(engine) as for_unknown:
        unknown = await statuses(world, path, EVE, number=7, address=ELSEWHERE)

    assert known == unknown == [202] * 5 + [429] * 2
    assert for_known == for_unknown


async def test_the_two_mails_count_together(world: ThrottledWorld, ada: User) -> None:
    """Both kinds of mails go to the same inbox, so they have one limit."""
    del ada
    await statuses(world, "/forgot-password", number=5)

    assert await statuses(world, "/request-verify-token", number=1) == [429]


async def test_mails_and_logins_count_apart(world: ThrottledWorld, ada: User) -> None:
    """A user who has tried several passwords can ask for a mail, and one who has asked for mails can log in."""
    del ada
    await world.visitor().guesses(6)

    assert await statuses(world, "/forgot-password", number=6) == [202] * 5 + [429]
    assert (await world.visitor(ELSEWHERE).log_in()).status == 200


@pytest.mark.parametrize("action", ["forgot_password", "request_verify"])
async def test_a_route_of_the_application_is_throttled(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]], action: str
) -> None:
    """A route of the application's own that calls the method of the user manager is throttled there."""
    del ada

    assert await statuses(world, f"/own/{action}", number=6) == [200] * 5 + [429]
    assert [event.action for event in events if isinstance(event, LoginThrottled)] == [action]


async def test_a_known_device_can_ask_for_a_mail(world: ThrottledWorld, ada: User) -> None:
    """Whoever floods an account with requests for mails does not lock out the user's own devices."""
    del ada
    world = replace(world, throttle=LoginThrottle(per_account=("1/hour",)))
    await world.visitor().log_in()
    await statuses(world, "/forgot-password", number=1, address=ELSEWHERE)

    assert await statuses(world, "/forgot-password", number=1) == [202]
    assert await statuses(world, "/forgot-password", number=1, address="203.0.113.9") == [429]


@every_route
async def test_without_a_throttle_mails_are_sent(world: ThrottledWorld, ada: User, path: str) -> None:
    """Without a throttle no request for a mail is refused, for known and unknown accounts."""
    del ada
    world = replace(world, throttle=None)

    assert await statuses(world, path, number=6) == [202] * 6
    assert await statuses(world, path, EVE, number=1) == [202]


class CallingManager(Manager):
    """A user manager that does more and then calls `super()`."""

    async def get_by_email(self, user_email: str) -> User:
        """Find a user."""
        return await super().get_by_email(user_email.removeprefix("mailto:"))

    async def forgot_password(self, user: User, request: Request | None = None) -> None:
        """Send the mail."""
        await super().forgot_password(user, request)


async def test_an_override_counts_once(world: ThrottledWorld, ada: User) -> None:
    """Methods of the application that call `super()` count a request once."""
    del ada
    world = replace(world, kind=CallingManager)

    assert await statuses(world, "/forgot-password", number=6) == [202] * 5 + [429]
    assert await statuses(world, "/forgot-password", EVE, number=6, address=ELSEWHERE) == [202] * 5 + [429]


async def test_a_script_counts_for_the_account(world: ThrottledWorld, ada: User) -> None:
    """Without a request, mails count only for the account, in each call."""
    throttle = LoginThrottle(per_account=("2/hour",))
    async with world.database.session() as session, world.database.store(session) as store:
        manager = replace(world, throttle=throttle).manager(session, store, None)
        for _ in range(2):
            await manager.forgot_password(ada)

        with pytest.raises(TooManyAttempts):
            await manager.forgot_password(ada)
