"""`current_token` and scopes: FastAPI's `Security` names what a route needs, and only such routes accept API tokens."""

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from httpx import AsyncClient, Response

from fastapi_users_knox import KnoxSettings, current_token
from tests.asgi import talk
from tests.models import User
from tests.routers.device import Device, on_each_kind_of_store
from tests.site import COOKIES, Served, World, bearing, build_app, create_users, knox_backend, shared
from tests.strategies import MINUTE, Clock

READ, WRITE = "reports:read", "reports:write"
SCOPED = ["read", "write", "both", "record", "nested", "router/below", "either", "optional", "fresh", "two"]
SESSION, API = knox_backend(), knox_backend("api")


@shared
def create_site() -> FastAPI:
    """Build an application whose routes need different scopes, and accept the tokens of two audiences."""
    app, users = build_app(SESSION, API), create_users(SESSION, API)
    current = current_token(users, [SESSION, API])
    _add_route(app, "plain", Depends(current))
    _add_route(app, "empty", Security(current))
    _add_route(app, "read", Security(current, scopes=[READ]))
    _add_route(app, "write", Security(current, scopes=[WRITE]))
    _add_route(app, "both", Security(current, scopes=[READ, WRITE]))
    _add_route(app, "session", Security(current_token(users, SESSION), scopes=[READ]))
    _add_route(app, "record", Security(current_token(users, [API, SESSION], load_user=False), scopes=[READ]))
    _add_route(app, "optional", Security(current_token(users, [SESSION, API], optional=True), scopes=[READ]))
    _add_route(app, "fresh", Security(current_token(users, [SESSION, API], fresh_within=MINUTE), scopes=[READ]))
    _add_route(app, "superuser", Security(current_token(users, [SESSION, API], superuser=True), scopes=[READ]))
    _add_route(app, "stock", Depends(users.current_user(active=True)))

    def nested(current: Annotated[Any, Security(current, scopes=[WRITE])]) -> Any:
        return current

    _add_route(app, "nested", Security(nested, scopes=[READ]))
    router = APIRouter(dependencies=[Security(current, scopes=[WRITE])])
    _add_route(router, "router/below", Security(current, scopes=[READ]))
    app.include_router(router)
    inner = APIRouter()
    _add_route(inner, "two", Security(current, scopes=[READ]))
    app.include_router(inner, dependencies=[Security(current, scopes=[READ])])
    _add_route(app, "cookie", Security(current_token(users, [API, knox_backend("web", COOKIES)]), scopes=[READ]))
    _add_route(app, "either", Security(current_token(users, (API,)), scopes=[READ]))
    return app


def _add_route(app: FastAPI | APIRouter, name: str, dependency: Any) -> None:
    @app.get(f"/scopes/{name}")
    async def which(current: Annotated[Any, dependency]) -> str:
        return "nobody" if current is None else "accepted"

    @app.websocket(f"/ws/scopes/{name}")
    async def talk(websocket: WebSocket, current: Annotated[Any, dependency]) -> None:
        await websocket.accept()
        await websocket.send_text("nobody" if current is None else "accepted")
        await websocket.close()


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Give the API tokens an audience of their own."""
    return {"api": KnoxSettings(audience="api", token_prefix="knox_pat_")}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


async def issue(world: World, user: User, *scopes: str, backend: str = "api") -> str:
    """Issue a token with these scopes."""
    async with world.database.session() as session, world.database.store(session) as store:
        return await world.strategy(backend, store, session, None).issue(user, scopes=scopes, replace=False)


async def get(client: AsyncClient, name: str, token: str) -> Response:
    """Call a route with a token."""
    return await client.get(f"/scopes/{name}", headers=bearing(token))


@on_each_kind_of_store
@pytest.mark.parametrize(
    ("scopes", "accepted"),
    [
        ([READ], {"read", "record", "either", "optional", "fresh", "two"}),
        ([WRITE], {"write"}),
        ([READ, WRITE], {*SCOPED}),
        (["admin"], set()),
    ],
)
async def test_routes_accept_tokens_with_their_scopes(
    client: AsyncClient, world: World, ada: User, scopes: list[str], accepted: set[str]
) -> None:
    """A token is accepted by exactly those routes whose scopes, with those of their dependencies, it has."""
    token = await issue(world, ada, *scopes)

    answers = {name: await get(client, name, token) for name in SCOPED}

    assert {name for name, answer in answers.items() if answer.json() == "accepted"} == accepted
    others = {name: answer.status_code for name, answer in answers.items() if name not in {*accepted, "optional"}}
    assert set(others.values()) <= {403}


@on_each_kind_of_store
@pytest.mark.parametrize("name", ["plain", "empty", "stock", "session"])
async def test_other_routes_refuse_tokens_with_scopes(client: AsyncClient, world: World, ada: User, name: str) -> None:
    """A route that names no scopes, or not the backend, answers 401 to every API token."""
    token = await issue(world, ada, READ, WRITE)

    assert (await get(client, name, token)).status_code == 401


async def test_the_scopes_are_named(client: AsyncClient, world: World, ada: User) -> None:
    """The 403 names all scopes that the route and its dependencies need (RFC 6750 §3.1)."""
    answer = await get(client, "nested", await issue(world, ada, READ))

    challenge = f'Bearer error="insufficient_scope", scope="{READ} {WRITE}"'
    assert (answer.status_code, answer.json()) == (403, {"detail": "INSUFFICIENT_SCOPE"})
    assert answer.headers["WWW-Authenticate"] == challenge


async def test_an_optional_route_takes_no_notice(client: AsyncClient, world: World, ada: User) -> None:
    """Without the scope, an optional route treats the request as one without a token."""
    assert (await get(client, "optional", await issue(world, ada, WRITE))).json() == "nobody"


async def test_sessions_need_no_scopes(laptop: Device) -> None:
    """A session is accepted by each route of its backend, whatever scopes the route needs."""
    names = [*SCOPED, "plain", "empty", "session", "stock"]

    refused = {name for name in names if (await laptop.call("GET", f"/scopes/{name}")).status_code != 200}

    assert refused == {"either", "fresh"}  # of the other backend, and logged in an hour ago


@pytest.mark.parametrize("scopes", [[READ], [WRITE]])
async def test_a_session_beside_an_api_token_is_enough(
    laptop: Device, world: World, ada: User, scopes: list[str]
) -> None:
    """If a request has a session in a cookie and an API token in the header, the session is accepted in any case."""
    headers = {**bearing(await issue(world, ada, *scopes)), "Cookie": f"knox={laptop.token}"}

    answer = await laptop.http.get("/scopes/cookie", headers=headers)

    assert answer.json() == "accepted"


async def test_a_token_of_somebody_is_not_a_superuser(client: AsyncClient, world: World, ada: User) -> None:
    """The conditions on the user hold for API tokens too."""
    answer = await get(client, "superuser", await issue(world, ada, READ))

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (403, 'Bearer error="insufficient_scope"')


async def test_an_api_token_ages(client: AsyncClient, world: World, ada: User, clock: Clock) -> None:
    """A route that needs a fresh login refuses an API token once the login by which it was issued is too long ago."""
    token = await issue(world, ada, READ)
    fresh = await get(client, "fresh", token)
    clock.now += 2 * MINUTE

    stale = await get(client, "fresh", token)

    assert (fresh.status_code, stale.status_code) == (200, 401)
    assert stale.json() == {"detail": "REAUTHENTICATION_REQUIRED"}


@pytest.mark.parametrize(
    ("name", "scopes", "is_accepted"), [("read", [READ], True), ("write", [READ], False), ("plain", [READ], False)]
)
async def test_websockets_have_scopes(
    app: Served, world: World, ada: User, name: str, scopes: list[str], *, is_accepted: bool
) -> None:
    """A WebSocket accepts an API token under the same rule."""
    token = await issue(world, ada, *scopes)

    messages = await talk(app, f"/ws/scopes/{name}", [(b"authorization", f"Bearer {token}".encode())])

    assert (messages[0]["type"] == "websocket.accept") == is_accepted


def test_openapi_shows_the_scopes() -> None:
    """The OpenAPI document names the scopes of a route, in each of its security schemes."""
    paths = create_site().openapi()["paths"]

    assert paths["/scopes/nested"]["get"]["security"] == [{"KnoxBearer": [READ, WRITE]}]
    assert paths["/scopes/plain"]["get"]["security"] == [{"KnoxBearer": []}]


def test_a_backend_is_needed() -> None:
    """`current_token` without any backend is an error, because it would refuse everybody."""
    with pytest.raises(TypeError, match="at least one backend"):
        current_token(create_users(SESSION), [])
