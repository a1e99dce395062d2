"""Simultaneous requests that create, roll and revoke API tokens, and that revoke the sessions of their user."""

import asyncio
import uuid
from collections.abc import Mapping

import pytest

from fastapi_users_knox import KnoxEvent, KnoxSettings, TokenIssued
from tests.models import User
from tests.routers.api_site import (
    API_SETTINGS,
    create,
    create_site,
    created,
    listed,
    reads,
    roll,
)
from tests.routers.device import Device, on_each_database
from tests.site import Served, World

AT_ONCE = 6

NOT_FOUND = (404, {"detail": "API_TOKEN_NOT_FOUND"})
ROLLED = (409, {"detail": "API_TOKEN_ALREADY_ROLLED"})


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of the API tokens."""
    return {"api": API_SETTINGS}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


@pytest.mark.parametrize(("overlap", "loser"), [(60, ROLLED), (0, NOT_FOUND)])
@on_each_database
async def test_one_of_many_rolls_wins(
    phone: Device, events: list[KnoxEvent[uuid.UUID]], *, overlap: int, loser: tuple[int, object]
) -> None:
    """Of simultaneous rolls exactly one issues a successor; the others get the answer of a later roll, and no 401."""
    token = await created(phone)
    events.clear()

    answers = await asyncio.gather(*(roll(phone, token["id"], overlap) for _ in range(AT_ONCE)))

    [won] = [answer for answer in answers if answer.status_code == 201]
    assert [(each.status_code, each.json()) for each in answers if each is not won] == [loser] * (AT_ONCE - 1)
    assert len([event for event in events if isinstance(event, TokenIssued)]) == 1
    assert await reads(phone.http, won.json()["token"]) == 200
    assert len(await listed(phone)) == (2 if overlap else 1)


@on_each_database
async def test_one_of_many_ends_wins(phone: Device) -> None:
    """Of simultaneous requests that revoke a token, exactly one finds it."""
    token = await created(phone)

    answers = await asyncio.gather(*(phone.call("DELETE", f"/knox/api-tokens/{token['id']}") for _ in range(AT_ONCE)))

    assert sorted(answer.status_code for answer in answers) == [204] + [404] * (AT_ONCE - 1)


@on_each_database
async def test_no_token_outlives_the_revocation_of_all(ada: User, phone: Device, admin: Device) -> None:
    """A token that is created or rolled while an administrator revokes everything is refused afterwards."""
    old = await created(phone)
    path = f"/admin/knox/{ada.id}/sessions"

    *answers, revoked = await asyncio.gather(
        *(create(phone) for _ in range(AT_ONCE)),
        *(roll(phone, old["id"], 60) for _ in range(2)),
        admin.call("DELETE", path),
    )

    assert revoked.status_code == 204
    assert {answer.status_code for answer in answers} <= {201, 401, 404, 409}
    texts = [old["token"], *(answer.json()["token"] for answer in answers if answer.status_code == 201)]
    assert {await reads(phone.http, text) for text in texts} == {401}


@on_each_database
async def test_a_session_that_was_logged_out_creates_no_token(phone: Device) -> None:
    """Once a logout of all devices has returned, none of the revoked sessions can have created another token."""
    answers, _ = await asyncio.gather(
        asyncio.gather(*(create(phone) for _ in range(AT_ONCE))), phone.call("POST", "/knox/logout-all")
    )
    later = await create(phone)

    assert {answer.status_code for answer in answers} <= {201, 401}
    assert later.status_code == 401
