"""How `get_api_token_router` checks its arguments and the two backends, and what it documents in OpenAPI."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import (
    ApiTokenCreated,
    ApiTokenRead,
    ApiTokenSettings,
    KnoxError,
    KnoxSettings,
    get_api_token_router,
)
from fastapi_users_knox.redis import RedisTokenStore
from tests.models import User
from tests.routers.api_site import READ, SCOPES, WRITE, api_backend, build_site, create, create_site
from tests.routers.device import Device
from tests.site import (
    Database,
    Knox,
    Store,
    World,
    client_of,
    create_users,
    jwt_backend,
    knox_backend,
    login,
)
from tests.strategies import NOW, SECOND

PATHS = {
    "create_api_token": ("post", "/knox/api-tokens/", "201 400 401 403 422 503"),
    "api_tokens": ("get", "/knox/api-tokens/", "200 401 503"),
    "end_api_token": ("delete", "/knox/api-tokens/{id}", "204 401 404 422 503"),
    "roll_api_token": ("post", "/knox/api-tokens/{id}/roll", "201 400 401 403 404 409 422 503"),
}
each_route = pytest.mark.parametrize("name", PATHS)


@pytest.fixture
def document() -> dict[str, Any]:
    """Return the OpenAPI document, of which no other test has the application."""
    return build_site().openapi()


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the OpenAPI operation of a route."""
    method, path, _ = PATHS[name]
    found: dict[str, Any] = document["paths"][path][method]
    return found


def codes(operation: dict[str, Any], status: int) -> list[str]:
    """Return the documented values of `detail` for a status."""
    return [*operation["responses"][str(status)]["content"]["application/json"]["examples"]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scopes": {}}, ValueError, "scopes must have names"),
        ({"scopes": {"": "Nothing"}}, ValueError, "scopes must have names"),
        ({"scopes": {"read reports": "Two words"}}, ValueError, "scopes must have names"),
        ({"scopes": {'"': "A quote"}}, ValueError, "scopes must have names"),
        ({"scopes": {"x" * 1025: "Too long"}}, ValueError, "1024 bytes"),
        ({"scopes": {7: "A number"}}, TypeError, "a collection of strings"),
        ({"scopes": [READ]}, TypeError, "scopes must be a mapping"),
        ({"max_ttl": timedelta(0)}, ValueError, "must be more than 0"),
        ({"max_ttl": timedelta(days=36526)}, ValueError, "at most 100 years"),
        ({"max_ttl": SECOND / 2}, ValueError, "max_ttl must be at least a second"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """An option that is wrong raises an error that names the option and the rule, when the router is made."""
    sessions = knox_backend()

    with pytest.raises(error, match=message):
        get_api_token_router(create_users(sessions), sessions, api_backend(), **({"scopes": SCOPES} | options))


@pytest.mark.parametrize("max_ttl", [SECOND, timedelta(days=36525), None])
def test_the_longest_lifetimes_are_accepted(max_ttl: timedelta | None) -> None:
    """A `max_ttl` of a second, of 100 years and of `None` is accepted."""
    sessions = knox_backend()

    assert get_api_token_router(create_users(sessions), sessions, api_backend(), scopes=SCOPES, max_ttl=max_ttl).routes


@pytest.mark.parametrize("place", ["backend", "api_backend"])
async def test_another_strategy_is_refused_at_the_first_request(world: World, ada: User, place: str) -> None:
    """A backend whose strategy turns out to be none of ours raises a TypeError that names the backend."""
    sessions, other = knox_backend(), jwt_backend()
    users, app = create_users(sessions, other), FastAPI()
    app.include_router(users.get_auth_router(sessions), prefix="/knox")
    backends = (other, sessions) if place == "backend" else (sessions, other)
    app.include_router(get_api_token_router(users, *backends, scopes=SCOPES), prefix="/knox/api-tokens")

    async with client_of(world.serving(app)) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        with pytest.raises(TypeError, match="backend 'jwt' must have a KnoxStrategy"):
            await create(device)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("sessions", "tokens"), [("", ""), ("api", "api")])
async def test_both_need_audiences_of_their_own(
    world: World, ada: User, *, method: str, sessions: str, tokens: str
) -> None:
    """If the sessions have the audience of the API tokens, the first request raises an error."""
    settings = {"knox": KnoxSettings(audience=sessions), "api": ApiTokenSettings(audience=tokens)}
    async with client_of(world.having(**settings).serving(create_site())) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        with pytest.raises(KnoxError, match=f"have the same audience '{tokens}'"):
            await device.call(method, "/knox/api-tokens/", {"name": "x", "scopes": [READ]})


@dataclass(frozen=True, kw_only=True)
class ApartWorld(World):
    """A world in which the API tokens are in a store of another class."""

    apart: Store

    def strategy(self, backend: str, store: Store, *more: Any) -> Knox:
        """Return a request's strategy, for the API tokens over the other store."""
        return super().strategy(backend, self.apart if backend == "api" else store, *more)


@asynccontextmanager
async def apart(world: World, store: Store) -> AsyncIterator[AsyncClient]:
    """Open a client of an application whose API tokens are in another store than the sessions."""
    settings = {"api": ApiTokenSettings()}
    async with client_of(
        ApartWorld(database=world.database, settings=settings, apart=store).serving(create_site())
    ) as c:
        yield c


async def test_both_need_the_same_kind_of_store(world: World, ada: User) -> None:
    """If the API tokens are in Redis and the sessions in SQL, the first request raises an error."""
    async with Redis(port=1) as redis, apart(world, RedisTokenStore(redis)) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        with pytest.raises(KnoxError, match="in a SQLAlchemyTokenStore and the API tokens in a RedisTokenStore"):
            await create(device)


async def test_a_subclass_of_a_store_is_of_its_kind(engine: AsyncEngine, world: World, ada: User) -> None:
    """One of the two stores may be of an application's own subclass."""
    database = Database(engine=engine)
    async with database.session() as session, database.store(session) as store:
        subclass = type("Own", (type(store),), {})(session, database.token)
        async with apart(world, subclass) as client:
            device = Device(http=client, token=await login(client, email=ada.email))
            response = await create(device)

    assert response.status_code == 201


@each_route
def test_answers_are_documented(document: dict[str, Any], name: str) -> None:
    """Each route documents exactly the statuses that it answers with, and takes a session alone."""
    documented = operation(document, name)

    assert sorted(documented["responses"]) == PATHS[name][2].split()
    assert documented["security"] == [{"KnoxBearer": []}]
    assert codes(documented, 401) == ["Unauthorized", "REAUTHENTICATION_REQUIRED"]
    assert [*documented["responses"]["401"]["headers"]] == ["WWW-Authenticate"]
    assert [*documented["responses"]["503"]["headers"]] == ["Retry-After"]


@each_route
def test_verification_is_documented(name: str) -> None:
    """With `requires_verification` each route documents 403; without `fresh_within` none asks to authenticate again."""
    documented = operation(build_site(requires_verification=True, fresh_within=None).openapi(), name)

    assert codes(documented, 403)[0] == "Forbidden"
    assert codes(documented, 401) == ["Unauthorized"]


def test_errors_have_their_codes(document: dict[str, Any]) -> None:
    """Each error is documented with the values of its `detail`."""
    create, end, roll = (operation(document, f"{verb}_api_token") for verb in ("create", "end", "roll"))

    assert codes(create, 403) == codes(roll, 403) == ["LOGIN_TOKEN_LIMIT_REACHED"]
    assert codes(create, 400) == codes(roll, 400) == ["LOGIN_BAD_CREDENTIALS"]
    assert codes(end, 404) == codes(roll, 404) == ["API_TOKEN_NOT_FOUND"]
    assert codes(roll, 409) == ["API_TOKEN_ALREADY_ROLLED", "API_TOKEN_SCOPE_WITHDRAWN"]


def test_the_scopes_are_documented(document: dict[str, Any]) -> None:
    """The schema of a new token enumerates the scopes and says what they allow."""
    fields = document["components"]["schemas"]["ApiTokenCreate"]["properties"]

    assert fields["scopes"]["items"]["enum"] == [READ, WRITE]
    assert all(f"- `{name}`: {meaning}" in fields["scopes"]["description"] for name, meaning in SCOPES.items())
    assert document["components"]["schemas"]["ApiTokenCreate"]["required"] == ["name", "scopes"]


@pytest.mark.parametrize(("max_ttl", "seconds"), [(timedelta(hours=1), 3600), (None, 36525 * 24 * 3600)])
def test_the_bounds_are_documented(max_ttl: timedelta | None, seconds: int) -> None:
    """The schemas contain the longest lifetime and the longest overlap."""
    schemas = build_site(max_ttl=max_ttl, scopes=(READ,)).openapi()["components"]["schemas"]

    lifetime = schemas["ApiTokenCreate"]["properties"]["expires_in"]["anyOf"][0]
    overlap = schemas["ApiTokenRoll"]["properties"]["overlap"]
    assert (lifetime["exclusiveMinimum"], lifetime["maximum"]) == (0, seconds)
    assert (overlap["minimum"], overlap["maximum"]) == (0, seconds)
    assert schemas["ApiTokenRoll"]["required"] == ["overlap"]
    assert schemas["ApiTokenCreate"]["properties"]["scopes"]["items"]["enum"] == [READ]


@pytest.mark.parametrize("model", [ApiTokenCreated, ApiTokenRead])
def test_the_answers_have_examples(document: dict[str, Any], model: type[ApiTokenCreated | ApiTokenRead]) -> None:
    """Each field is required and described, and the example validates."""
    schema = document["components"]["schemas"][model.__name__]

    assert set(schema["required"]) == set(schema["properties"]) == set(model.model_fields)
    assert all(field["description"] for field in schema["properties"].values())
    [example] = schema["examples"]
    assert model.model_validate(example).model_dump(mode="json") == example


def test_the_text_is_in_no_repr() -> None:
    """The repr of an answer hides the text of the token."""
    answer = ApiTokenCreated(
        token="knox_pat_secret",
        id=uuid.uuid4(),
        name="x",
        scopes=[READ],
        created_at=NOW,
        expires_at=None,
    )

    assert "knox_pat_secret" not in repr(answer)


@each_route
def test_routes_are_named_after_their_backend(name: str) -> None:
    """Route names contain the name of the API tokens' backend, so `url_path_for` finds the routes."""
    sessions, app = knox_backend(), FastAPI()
    app.include_router(
        get_api_token_router(create_users(sessions), sessions, api_backend(), scopes=SCOPES), prefix="/knox/api-tokens"
    )
    path: Mapping[str, Any] = {"id": "x"} if "{id}" in PATHS[name][1] else {}

    assert app.url_path_for(f"auth:api.{name}", **path) == PATHS[name][1].format(**path)


def test_operations_are_named_once(document: dict[str, Any]) -> None:
    """Operation ids are unique, although two routers issue the same tokens."""
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]

    assert len(names) == len(set(names))
