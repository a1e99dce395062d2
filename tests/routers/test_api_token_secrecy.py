"""The text of an API token is in the answer that issues it, and nowhere else."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
from httpx import Response

from fastapi_users_knox import KnoxEvent, KnoxSettings, log_event
from tests.routers.api_site import API_SETTINGS, COOKIE_NAME, create, create_site, created, roll
from tests.routers.device import Device, on_each_database
from tests.site import Served, World, bearing

LISTS = ["/knox/api-tokens/", "/knox/sessions", "/users/me"]


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of the API tokens."""
    return {"api": API_SETTINGS}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application, which also writes an audit log."""
    return replace(world, listeners=[*world.listeners, log_event]).serving(create_site())


async def answers_to(device: Device, token: str) -> list[Response]:
    """Present an API token in every place, and be refused in most of them."""
    return [
        *[await device.call("GET", path) for path in LISTS],
        *[await Device(http=device.http, token=token).call("GET", path) for path in ("/reports", "/archive", *LISTS)],
        await device.http.get("/reports", headers={"Cookie": f"{COOKIE_NAME}={token}"}),
        await device.http.get("/reports", headers=bearing(token, "Token")),
        await create(device, name=token),
        await roll(device, token),
        await device.call("DELETE", f"/knox/api-tokens/{token}"),
    ]


@on_each_database
async def test_the_text_is_nowhere_else(
    phone: Device, events: list[KnoxEvent[uuid.UUID]], caplog: pytest.LogCaptureFixture
) -> None:
    """No log, no event and no other answer has the text of a token, its successor or the secret part of either."""
    caplog.set_level(logging.DEBUG)
    old = await created(phone)
    new = (await roll(phone, old["id"], overlap=60)).json()

    answers = await answers_to(phone, new["token"])
    answers += [await phone.call("DELETE", f"/knox/api-tokens/{each['id']}") for each in (old, new)]

    logged = [record.getMessage() for record in caplog.records if record.name.startswith("fastapi_users_knox")]
    published = [
        repr(getattr(event, field.name)) for event in events for field in fields(event) if field.name != "request"
    ]
    shown = [*logged, *published, *(answer.text + str(answer.headers) for answer in answers)]
    secrets = [secret for each in (old, new) for secret in (each["token"], each["token"][-49:-6])]
    assert [secret for secret in secrets for text in shown if secret in text] == []
    assert len([line for line in logged if "TokenIssued" in line]) == 2
