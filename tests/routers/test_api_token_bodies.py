"""What a client may send to create or roll an API token, and what is refused."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from httpx import Response

from fastapi_users_knox import KnoxSettings
from tests.routers.api_site import API_SETTINGS, NIGHTLY, READ, create, create_site, created, listed, roll
from tests.routers.device import Device
from tests.site import Served, World, bearing

YEAR = 365 * 24 * 3600
# An emoji, right-to-left text, an accent as a character of its own, and what looks like HTML.
NAMES = [
    "\U0001f4c8",
    "دفتر",
    "re\u0301sume\u0301",
    "<script>alert(1)</script>",
    "%00",
    "a b",
    "'; DROP TABLE",
    "x" * 128,
]
BAD_NAMES: list[Any] = [
    *("", "   ", "\u2003", "x" * 129, "a\x00b", "a\nb", "a\x1b[31mb", "\u202egnp", "\ud800", "\u200b", "\ue000"),
    *(None, 7, True, ["x"], {"name": "x"}),
]
BAD_SCOPES: list[Any] = [
    *([], [""], ["reports"], ["reports:read "], ["REPORTS:READ"], ["reports:read reports:write"], ["*"], [None], [7]),
    *([[READ]], [{"scope": READ}], READ, None, {READ: True}, [READ, "admin"], ["reports:read\x00"], ["\ud800"], True),
]
BAD_NUMBERS: list[Any] = [-1, True, False, "60", "", 1.5, 60.0, [60], {}, YEAR + 1, 2**31, 2**63, 10**400]
NOT_JSON = ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 5000]


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of the API tokens."""
    return {"api": API_SETTINGS}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_kept(phone: Device, name: str) -> None:
    """A name of printable characters is listed as it was sent."""
    answer = await created(phone, name=name)

    assert answer["name"] == name
    assert [each["name"] for each in await listed(phone)] == [name]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
async def test_a_name_is_refused(phone: Device, name: object) -> None:
    """A name must be 1 to 128 printable characters."""
    assert await refusals(phone, name=name) == ["name"]


async def test_a_name_is_no_token(phone: Device) -> None:
    """A token that was pasted into the name is refused, and not repeated in the answer."""
    response = await create(phone, name=f"key {phone.token}")

    assert response.status_code == 422
    assert phone.token not in response.text


@pytest.mark.parametrize("scopes", BAD_SCOPES, ids=ascii)
async def test_scopes_are_refused(phone: Device, scopes: object) -> None:
    """At least one scope is needed, and each must be one of those that are allowed."""
    assert await refusals(phone, scopes=scopes) == ["scopes"]


@pytest.mark.parametrize("seconds", [0, *BAD_NUMBERS], ids=lambda each: ascii(each)[:20])
async def test_a_lifetime_is_refused(phone: Device, seconds: object) -> None:
    """A lifetime is a whole number of seconds, more than 0 and at most `max_ttl`."""
    assert await refusals(phone, expires_in=seconds) == ["expires_in"]


@pytest.mark.parametrize("seconds", [None, *BAD_NUMBERS], ids=lambda each: ascii(each)[:20])
async def test_an_overlap_is_refused(phone: Device, seconds: object) -> None:
    """An overlap is a whole number of seconds, 0 or more and at most `max_ttl`."""
    token = await created(phone)

    response = await roll(phone, token["id"], seconds)

    assert (response.status_code, [error["loc"] for error in response.json()["detail"]]) == (422, [["body", "overlap"]])


@pytest.mark.parametrize("seconds", [1, YEAR])
async def test_the_bounds_are_accepted(phone: Device, seconds: int) -> None:
    """The shortest and the longest lifetime and overlap are accepted."""
    token = await created(phone, expires_in=seconds)

    assert [(await roll(phone, token["id"], each)).status_code for each in (seconds, YEAR)] == [201, 409]


async def test_a_lifetime_may_be_null(phone: Device) -> None:
    """A lifetime of `null` is the default lifetime."""
    assert (await created(phone, expires_in=None))["expires_at"] == (await created(phone))["expires_at"]


@pytest.mark.parametrize("number", NOT_JSON, ids=lambda each: each[:10])
@pytest.mark.parametrize("field", ["expires_in", "overlap"])
async def test_numbers_that_json_does_not_have_are_refused(phone: Device, number: str, field: str) -> None:
    """A number that Python reads, but JSON does not have, gets an answer that says so, and never 500."""
    path = "" if field == "expires_in" else f"{uuid.uuid4()}/roll"
    body = json.dumps(NIGHTLY if field == "expires_in" else {})
    content = body.removesuffix("}") + f'{", " if body != "{}" else ""}"{field}": {number}}}'

    response = await post(phone, content, path)

    assert response.status_code in {400, 422}


@pytest.mark.parametrize(
    "field",
    [
        *("id", "user_id", "token", "audience", "data", "token_ttl", "expires_at", "created_at", "authenticated_at"),
        *("device_id", "replace", "by", "expire_in", "Scopes", "__class__", "\ud800", ""),
    ],
    ids=ascii,
)
async def test_other_fields_are_refused(phone: Device, field: str) -> None:
    """A field that the schema does not have is refused, so nobody can set what only the server sets."""
    token = await created(phone)
    fields = {**NIGHTLY, field: "x"}, {"overlap": 0, field: "x"}

    answers = [
        await post(phone, json.dumps(body), path)
        for path, body in zip(("", f"{token['id']}/roll"), fields, strict=True)
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert len(await listed(phone)) == 1


@pytest.mark.parametrize("content", ["", "[]", "null", "7", '"x"', "{", "[[[[", '{"name": "x"'])
async def test_a_body_that_is_no_object_is_refused(phone: Device, content: str) -> None:
    """A body must be a JSON object."""
    response = await post(phone, content)

    assert response.status_code == 422


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
async def test_a_form_is_refused(phone: Device, kind: str) -> None:
    """A body of a type that other sites may send without asking (a simple request of CORS) is refused."""
    response = await post(phone, json.dumps(NIGHTLY), kind=kind)

    assert response.status_code == 422


async def test_a_refusal_does_not_repeat_the_body(phone: Device) -> None:
    """The answer says which field is wrong, but not what it was."""
    secrets = dict.fromkeys(("name", "expires_in", "a field"), "a secret")

    response = await create(phone, scopes=["a secret"], **secrets)

    assert [error["loc"][1] for error in response.json()["detail"]] == ["scopes", "expires_in", "a field"]
    assert "a secret" not in response.text


@pytest.mark.parametrize("id", ["x", "0", str(uuid.UUID(int=1))[:-1], "a b", "%00", "1" * 1000])
@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_an_id_that_is_no_uuid_is_refused(phone: Device, id: str, method: str) -> None:
    """An id that is not a UUID is refused."""
    path = f"/knox/api-tokens/{id}" + ("/roll" if method == "POST" else "")

    response = await phone.call(method, path, {"overlap": 0})

    assert response.status_code in {404, 422}


async def post(device: Device, content: str, path: str = "", *, kind: str = "application/json") -> Response:
    """Send a body exactly as it is written."""
    headers = bearing(device.token) | {"Content-Type": kind}
    return await device.http.post(f"/knox/api-tokens/{path}", headers=headers, content=content)


async def refusals(device: Device, **body: object) -> list[str]:
    """Ask for an API token with a wrong field, and return the fields that the refusal names."""
    response = await post(device, json.dumps({**NIGHTLY, **body}))  # Not every text can be sent as UTF-8.
    assert response.status_code == 422, response.text
    assert await listed(device) == []
    return sorted({error["loc"][1] for error in response.json()["detail"]})
