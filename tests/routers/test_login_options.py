"""Login options over HTTP: the stock login route issues the token that the application chooses by user and form."""

from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.requests import HTTPConnection, Request
from httpx import AsyncClient, Response

from fastapi_users_knox import LoginOptions
from tests.models import User
from tests.site import World, bearing, credentials
from tests.strategies import DAY, HOUR

pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "redis-7"], indirect=True),
]

MINUTES = 60


async def choose(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Choose by a field of the login form, and give superusers one short session."""
    assert isinstance(connection, Request)
    form = await connection.form()
    if user.is_superuser:
        return LoginOptions(token_ttl=timedelta(minutes=15), token_limit_per_user=1)
    if form.get("platform") == "ios":
        return LoginOptions(token_ttl=30 * DAY, token_prefix="ios_", data={"platform": "ios"}, name="The app")
    if "plan" in form:
        raise LookupError("no such plan")
    return LoginOptions()


@pytest.fixture
def world(world: World) -> World:
    """Let the application choose the options of each login."""
    return replace(world, login_options=choose)


async def send_login(client: AsyncClient, **fields: str) -> Response:
    """Log Ada in with more fields in the form."""
    return await client.post("/knox/login", data={**credentials(), **fields})


@pytest.mark.usefixtures("ada")
async def test_a_field_of_the_form_chooses(client: AsyncClient) -> None:
    """A function that reads the form chooses the prefix, lifetime, name and data; the user sees name and data."""
    answer = (await send_login(client, platform="ios")).json()

    [session] = (await client.get("/knox/sessions", headers=bearing(answer["access_token"]))).json()
    assert (answer["access_token"][:4], answer["expires_in"]) == ("ios_", 30 * DAY // timedelta(seconds=1))
    assert (session["name"], session["data"]) == ("The app", {"platform": "ios"})


@pytest.mark.usefixtures("ada")
async def test_without_the_field_the_settings_apply(client: AsyncClient) -> None:
    """A login without options is a login by the settings."""
    answer = (await send_login(client)).json()

    assert (answer["access_token"][:5], answer["expires_in"]) == ("knox_", 10 * HOUR // timedelta(seconds=1))


async def test_a_user_has_a_limit_of_their_own(world: World, client: AsyncClient) -> None:
    """The second session of a superuser is refused with the answer of any reached limit."""
    await world.database.create_user(is_superuser=True)

    first, second = [await send_login(client) for _ in range(2)]

    assert (first.status_code, first.json()["expires_in"]) == (200, 15 * MINUTES)
    assert (second.status_code, second.json()) == (403, {"detail": "LOGIN_TOKEN_LIMIT_REACHED"})


@pytest.mark.usefixtures("ada")
async def test_an_error_of_the_application_is_its_own(client: AsyncClient) -> None:
    """An error of the function reaches the application, and no session is stored."""
    token = (await send_login(client)).json()["access_token"]

    with pytest.raises(LookupError, match="no such plan"):
        await send_login(client, plan="gold")

    assert len((await client.get("/knox/sessions", headers=bearing(token))).json()) == 1
