"""A user's API tokens over HTTP: creating, listing, rolling and ending them, on each kind of store."""

import uuid
from collections.abc import Mapping
from datetime import timedelta

import pytest
from httpx import AsyncClient

from fastapi_users_knox import ApiTokenSettings, KnoxEvent, KnoxSettings
from tests.models import User
from tests.routers.api_site import (
    API_SETTINGS,
    READ,
    WRITE,
    create,
    create_site,
    created,
    listed,
    machine_of,
    reads,
    roll,
)
from tests.routers.device import Device, on_each_database
from tests.site import Database, Served, World, client_of, login
from tests.strategies import DAY, HOUR, MINUTE, SECOND, Clock, change_user, reasons, unknown_token

pytestmark = on_each_database

INVALID = 'Bearer error="invalid_token"'
STALE = (401, {"detail": "REAUTHENTICATION_REQUIRED"})
NOT_FOUND = (404, {"detail": "API_TOKEN_NOT_FOUND"})
ROLLED = (409, {"detail": "API_TOKEN_ALREADY_ROLLED"})
ROUTES = [
    ("GET", "/knox/api-tokens/", None),
    ("POST", "/knox/api-tokens/", {"name": "x", "scopes": [READ]}),
    ("DELETE", f"/knox/api-tokens/{uuid.UUID(int=1)}", None),
    ("POST", f"/knox/api-tokens/{uuid.UUID(int=1)}/roll", {"overlap": 0}),
]
each_route = pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=["list", "create", "end", "roll"])


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of the API tokens."""
    return {"api": API_SETTINGS}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


async def test_a_token_is_created(phone: Device) -> None:
    """The answer has the text of the token and what is stored about it, and is not cached."""
    response = await create(phone, name="  Nightly report \n", scopes=[WRITE, READ, READ])

    answer = response.json()
    assert answer.pop("token").startswith("knox_pat_")
    assert uuid.UUID(answer.pop("id"))
    assert (response.status_code, response.headers["Cache-Control"]) == (201, "no-store")
    assert answer == {
        "name": "Nightly report",
        "scopes": [READ, WRITE],
        "created_at": "2030-01-01T13:00:00Z",
        "expires_at": "2030-04-01T13:00:00Z",
    }


async def test_a_token_is_accepted_until_it_expires(phone: Device, clock: Clock) -> None:
    """The user chooses how long the token is valid, to the second."""
    token = (await created(phone, expires_in=60))["token"]

    clock.now += MINUTE - SECOND
    before = await reads(phone.http, token)
    clock.now += SECOND

    assert (before, await reads(phone.http, token)) == (200, 401)


async def test_creating_a_token_replaces_none(laptop: Device, phone: Device) -> None:
    """Creating an API token does not revoke the session or an earlier API token."""
    first, second = await machine_of(phone), await machine_of(phone)

    assert [await reads(phone.http, each.token) for each in (laptop, phone, first, second)] == [200] * 4
    assert len(await phone.sessions()) == 2


@pytest.mark.parametrize(
    ("ttl", "max_ttl", "expires_at"),
    [
        (DAY, HOUR, "2030-01-01T13:00:00Z"),
        (None, HOUR, "2030-01-01T13:00:00Z"),
        (HOUR, DAY, "2030-01-01T13:00:00Z"),
        (HOUR, None, "2030-01-01T13:00:00Z"),
        (None, None, None),
    ],
)
async def test_the_default_lifetime_is_cut(
    world: World, ada: User, *, ttl: timedelta | None, max_ttl: timedelta | None, expires_at: str | None
) -> None:
    """A default lifetime that is longer than `max_ttl`, or endless, is cut to `max_ttl`."""
    site = world.having(api=ApiTokenSettings(token_ttl=ttl)).serving(create_site(max_ttl=max_ttl))
    async with client_of(site) as client:
        device = Device(http=client, token=await login(client, email=ada.email))

        answer = await created(device)

    assert answer["expires_at"] == expires_at


async def test_the_longest_lifetime_may_be_chosen(world: World, ada: User) -> None:
    """A lifetime of exactly `max_ttl` is accepted, and one more second is not."""
    async with client_of(world.serving(create_site(max_ttl=HOUR))) as client:
        device = Device(http=client, token=await login(client, email=ada.email))

        statuses = [(await create(device, expires_in=seconds)).status_code for seconds in (3600, 3601)]

    assert statuses == [201, 422]


async def test_tokens_are_listed(phone: Device, stranger: Device, clock: Clock) -> None:
    """Users see their own live API tokens, newest first, without the texts; the list is not cached."""
    expired = await created(phone, expires_in=1)
    clock.now += SECOND
    first = await created(phone)
    clock.now += 2 * MINUTE
    second = await created(phone, name="Weekly report", scopes=[WRITE])
    await created(stranger)
    assert await reads(phone.http, first["token"]) == 200

    response = await phone.call("GET", "/knox/api-tokens/")

    read = {"last_used_at": "2030-01-01T13:02:01Z"}
    for each in (first, second):
        del each["token"]
    assert response.json() == [second | {"last_used_at": None}, first | read]
    assert response.headers["Cache-Control"] == "no-store"
    assert expired["id"] not in response.text


async def test_a_token_is_ended(phone: Device, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """A revoked token is refused at once. The other tokens and the session stay valid."""
    kept, ended = await created(phone), await created(phone)
    events.clear()

    response = await phone.call("DELETE", f"/knox/api-tokens/{ended['id']}")

    assert (response.status_code, response.content) == (204, b"")
    assert [await reads(phone.http, each["token"]) for each in (kept, ended)] == [200, 401]
    assert [each["id"] for each in await listed(phone)] == [kept["id"]]
    assert reasons(events[:1]) == ["session_revoked"]


@pytest.mark.parametrize("act", ["end", "roll"])
async def test_only_the_users_live_tokens_are_found(
    phone: Device, stranger: Device, clock: Clock, events: list[KnoxEvent[uuid.UUID]], act: str
) -> None:
    """The id of an unknown, foreign, expired or revoked token, or of a session, is answered with the same 404."""
    foreign, expired, ended = await created(stranger), await created(phone, expires_in=1), await created(phone)
    await phone.call("DELETE", f"/knox/api-tokens/{ended['id']}")
    clock.now += SECOND
    ids = [str(uuid.uuid4()), foreign["id"], expired["id"], ended["id"], await phone.id()]
    events.clear()

    answers = [
        await (phone.call("DELETE", f"/knox/api-tokens/{other}") if act == "end" else roll(phone, other))
        for other in ids
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [NOT_FOUND] * 5
    assert await phone.is_logged_in()
    assert await reads(phone.http, foreign["token"]) == 200
    assert {type(event).__name__ for event in events} <= {"TokenExpired"}


async def test_a_record_without_scopes_is_no_api_token(world: World, ada: User, phone: Device) -> None:
    """A session that the application issued in the audience of the API tokens is not listed, rolled or revoked."""
    async with world.database.session() as session, world.database.store(session) as store:
        user = await world.user_db(session).get(ada.id)
        record = (await world.strategy("api", store, session, None).issue(user)).record

    answers = [await phone.call("DELETE", f"/knox/api-tokens/{record.id}"), await roll(phone, str(record.id))]

    assert [(answer.status_code, answer.json()) for answer in answers] == [NOT_FOUND] * 2
    assert await listed(phone) == []


async def test_a_token_is_rolled(phone: Device, clock: Clock) -> None:
    """The successor has the old name, scopes and lifetime, and the old token stays valid for the overlap."""
    old = await created(phone, scopes=[READ, WRITE], expires_in=3600)
    clock.now += 5 * MINUTE

    response = await roll(phone, old["id"], overlap=60)

    new = response.json()
    assert (response.status_code, response.headers["Cache-Control"]) == (201, "no-store")
    assert {key: new[key] for key in ("name", "scopes")} == {key: old[key] for key in ("name", "scopes")}
    assert new["id"] != old["id"]
    assert (new["created_at"], new["expires_at"]) == ("2030-01-01T13:05:00Z", "2030-01-01T14:05:00Z")
    assert [await reads(phone.http, each["token"]) for each in (old, new)] == [200, 200]
    clock.now += MINUTE
    assert [await reads(phone.http, each["token"]) for each in (old, new)] == [401, 200]


async def test_a_token_is_rolled_at_once(phone: Device, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """Without an overlap, the old token is revoked in the same step."""
    old = await created(phone)
    events.clear()

    new = (await roll(phone, old["id"])).json()

    assert [await reads(phone.http, each["token"]) for each in (old, new)] == [401, 200]
    assert [each["id"] for each in await listed(phone)] == [new["id"]]
    assert [type(event).__name__ for event in events[:2]] == ["TokenRevoked", "TokenIssued"]


async def test_the_overlap_does_not_lengthen_the_old_token(phone: Device, clock: Clock) -> None:
    """A token expires when it would have expired anyway, however long the overlap is."""
    old = await created(phone, expires_in=60)

    new = (await roll(phone, old["id"], overlap=3600)).json()
    clock.now += MINUTE - SECOND
    before = await reads(phone.http, old["token"])
    clock.now += SECOND

    assert (before, await reads(phone.http, old["token"])) == (200, 401)
    assert new["expires_at"] == "2030-01-01T13:01:00Z"


async def test_a_token_is_rolled_once(phone: Device) -> None:
    """A token that has a successor cannot be rolled again, but the successor can."""
    old = await created(phone)
    new = (await roll(phone, old["id"], overlap=60)).json()

    again, next_one = await roll(phone, old["id"], overlap=60), await roll(phone, new["id"])

    assert ((again.status_code, again.json()), next_one.status_code) == (ROLLED, 201)
    assert len(await listed(phone)) == 2


@pytest.mark.parametrize(("ttl", "max_ttl", "lifetime"), [(None, HOUR, HOUR), (DAY, HOUR, HOUR), (None, None, None)])
async def test_the_lifetime_of_a_successor_is_limited(
    world: World, ada: User, clock: Clock, *, ttl: timedelta | None, max_ttl: timedelta | None, lifetime: timedelta
) -> None:
    """The successor of a token that was issued under a longer limit lives for `max_ttl`."""
    world = world.having(api=ApiTokenSettings(token_ttl=ttl))
    async with client_of(world.serving(create_site(max_ttl=None))) as client:
        old = await created(Device(http=client, token=await login(client, email=ada.email)))
    async with client_of(world.serving(create_site(max_ttl=max_ttl))) as client:
        new = (await roll(Device(http=client, token=await login(client)), old["id"])).json()

    assert new["expires_at"] == (lifetime and (clock.now + lifetime).isoformat().replace("+00:00", "Z"))


@pytest.mark.parametrize(("chosen", "lifetime"), [({}, 2 * HOUR), ({"expires_in": 3600}, HOUR)])
async def test_the_successor_of_a_refreshed_token_has_its_lifetime(
    world: World, ada: User, clock: Clock, *, chosen: Mapping[str, int], lifetime: timedelta
) -> None:
    """Refreshes extend a token, but its successor lives only as long as each refresh made the token live."""
    world = world.having(api=ApiTokenSettings(token_ttl=2 * HOUR, auto_refresh=True))
    async with client_of(world.serving(create_site())) as client:
        old = await created(Device(http=client, token=await login(client, email=ada.email)), **chosen)
        for _ in range(4):
            clock.now += lifetime - MINUTE
            assert await reads(client, old["token"]) == 200
        new = (await roll(Device(http=client, token=await login(client)), old["id"], 1)).json()

    assert new["expires_at"] == (clock.now + lifetime).isoformat().replace("+00:00", "Z")


async def test_a_withdrawn_scope_is_not_rolled(world: World, ada: User) -> None:
    """A token with a scope that users may no longer choose cannot be rolled, but can still be revoked."""
    async with client_of(world.serving(create_site())) as client:
        old = await created(Device(http=client, token=await login(client, email=ada.email)), scopes=[READ, WRITE])
    async with client_of(world.serving(create_site(scopes=(READ,)))) as client:
        device = Device(http=client, token=await login(client))
        rolled = await roll(device, old["id"])
        ended = await device.call("DELETE", f"/knox/api-tokens/{old['id']}")

    assert (rolled.status_code, rolled.json()) == (409, {"detail": "API_TOKEN_SCOPE_WITHDRAWN"})
    assert ended.status_code == 204


async def test_the_limit_is_kept(world: World, ada: User) -> None:
    """The limit counts API tokens alone; at the limit neither creating nor rolling with an overlap is possible."""
    async with client_of(world.having(api=ApiTokenSettings(token_limit_per_user=1)).serving(create_site())) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        first = await created(device)
        refused = [await create(device), await roll(device, first["id"], overlap=60)]
        rolled = await roll(device, first["id"])

    limit = (403, {"detail": "LOGIN_TOKEN_LIMIT_REACHED"})
    assert [(answer.status_code, answer.json()) for answer in refused] == [limit, limit]
    assert rolled.status_code == 201


@each_route
async def test_a_route_needs_a_fresh_session(laptop: Device, *, method: str, path: str, body: object) -> None:
    """A session whose user authenticated too long ago is refused, with RFC 9470's challenge."""
    response = await laptop.call(method, path, body)

    assert (response.status_code, response.json()) == STALE
    assert 'error="insufficient_user_authentication"' in response.headers["WWW-Authenticate"]


async def test_a_session_is_made_fresh(laptop: Device) -> None:
    """A user who enters the password again may create a token with the same session."""
    answer = await laptop.reauthenticate()
    fresh = Device(http=laptop.http, token=answer.json()["access_token"])

    assert (await create(fresh)).status_code == 201


@each_route
async def test_freshness_may_be_switched_off(
    world: World, laptop: Device, *, method: str, path: str, body: object
) -> None:
    """With `fresh_within=None` any session is accepted."""
    async with client_of(world.serving(create_site(fresh_within=None))) as client:
        response = await Device(http=client, token=laptop.token).call(method, path, body)

    assert response.status_code in {200, 201, 404}


@each_route
async def test_a_route_refuses_api_tokens(phone: Device, *, method: str, path: str, body: object) -> None:
    """An API token is no credential of these routes, whatever its scopes are."""
    machine = await machine_of(phone, scopes=[READ, WRITE])

    response = await machine.call(method, path, body)

    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, INVALID)
    assert len(await listed(phone)) == 1


@each_route
async def test_a_route_refuses_others(
    client: AsyncClient, ada: User, database: Database, phone: Device, *, method: str, path: str, body: object
) -> None:
    """No token, an unknown token and the token of an inactive user are refused."""
    without = await client.request(method, path, json=body)
    unknown = await Device(http=client, token=unknown_token(ada)).call(method, path, body)
    await change_user(database.engine, ada, is_active=False)
    inactive = await phone.call(method, path, body)

    assert [each.status_code for each in (without, unknown, inactive)] == [401, 401, 401]
    assert [each.headers["WWW-Authenticate"] for each in (without, unknown, inactive)] == ["Bearer", INVALID, INVALID]


@each_route
async def test_a_route_may_need_verification(
    world: World, ada: User, database: Database, *, method: str, path: str, body: object
) -> None:
    """With `requires_verification` an unverified user gets 403."""
    async with client_of(world.serving(create_site(requires_verification=True))) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        refused = await device.call(method, path, body)
        await change_user(database.engine, ada, is_verified=True)
        accepted = await device.call(method, path, body)

    assert (refused.status_code, refused.json()) == (403, {"detail": "Forbidden"})
    assert accepted.status_code in {200, 201, 404}
