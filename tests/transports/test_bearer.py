"""The bearer transport: the token in the header, the tokens that a request presents, and the login response."""

import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.requests import HTTPConnection
from fastapi_users.authentication.transport import Transport
from fastapi_users.schemas import BaseUser
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from fastapi_users_knox import IssuedToken, KnoxBearerTransport, KnoxLoginResponse, TokenRecord, tokens
from fastapi_users_knox.transports.presented import presented_texts

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=NOW + HOUR)
BEARER = KnoxBearerTransport("auth/login")


@dataclass
class Ada:
    """A user as an application's ORM returns one."""

    id: int = 1
    email: str = "ada@example.org"
    hashed_password: str = "hash"
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False


class UserRead(BaseUser[int]):
    """The schema with which an application returns a user."""


class SpokenUserRead(BaseModel):
    """A schema with an alias and with a field that the user class lacks."""

    model_config = ConfigDict(from_attributes=True)

    email: str = Field(serialization_alias="eMail")
    plan: str = "free"


def issued(record: TokenRecord[int] = RECORD, *, after: timedelta = timedelta(0)) -> IssuedToken:
    """Return a token as a strategy passes it to the transport."""
    return IssuedToken("knox_secret", record=record, user=Ada(), issued_at=NOW + after)


async def answer(transport: Transport, token: str) -> dict[str, Any]:
    """Log in and return the body of the response."""
    response = await transport.get_login_response(token)
    body: dict[str, Any] = json.loads(bytes(response.body))
    return body


# the header


async def presented(transport: KnoxBearerTransport, header: bytes | None) -> str | None:
    """Return the token that the transport finds in this Authorization header."""
    scheme: Any = transport.scheme
    headers = [] if header is None else [(b"authorization", header)]
    token: str | None = await scheme(HTTPConnection({"type": "websocket", "headers": headers}))
    return token


@pytest.mark.parametrize("login", ["auth/login", None])
@pytest.mark.parametrize("prefix", ["Bearer", "Token"])
@pytest.mark.parametrize("spelling", [str, str.lower, str.upper])
async def test_the_token_stands_behind_the_prefix(prefix: str, spelling: Any, login: str | None) -> None:
    """The token is taken from `Authorization: <prefix> <token>`, in any case of letters of the prefix."""
    transport = KnoxBearerTransport(login, header_prefix=prefix)

    assert await presented(transport, f"{spelling(prefix)} knox_secret".encode()) == "knox_secret"


@pytest.mark.parametrize("header", [None, b"", b"knox_secret", b"Token knox_secret", b"Bearerknox_secret", b"\xff\0"])
async def test_other_headers_hold_no_token(header: bytes | None) -> None:
    """A missing, malformed or differently prefixed Authorization header holds no token."""
    assert [await presented(transport, header) for transport in (BEARER, KnoxBearerTransport(None))] == [None, None]


@pytest.mark.parametrize("prefix", ["", " ", "Token ", "My Token", "Token,", 'To"ken', "T\xf6ken", "Token\n"])
def test_a_prefix_is_one_word(prefix: str) -> None:
    """A `header_prefix` that is not one token of HTTP raises a ValueError."""
    with pytest.raises(ValueError, match="header_prefix must be one word"):
        KnoxBearerTransport("auth/login", header_prefix=prefix)


async def test_what_is_noted_of_a_request_holds_no_token() -> None:
    """The repr of what the transport stores in the connection's scope shows no token."""
    connection = HTTPConnection({"type": "http", "headers": [(b"authorization", b"Bearer knox_secret")]})

    scheme: Any = BEARER.scheme
    await scheme(connection)

    noted = {key: value for key, value in connection.scope.items() if key.startswith("fastapi_users_knox")}
    assert noted
    assert "secret" not in repr(noted)


async def test_a_bearer_token_is_ignored_with_another_prefix() -> None:
    """With `header_prefix="Token"` a Bearer header is ignored."""
    transport = KnoxBearerTransport("auth/login", header_prefix="Token")

    assert await presented(transport, b"Bearer knox_secret") is None


# the tokens that a login revokes


ONE, TWO = (tokens.generate("00", prefix="knox_") for _ in range(2))


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], []),
        ([("authorization", f"Bearer {ONE}")], [ONE]),
        ([("authorization", f"Token {ONE}")], [ONE]),
        ([("authorization", ONE)], [ONE]),
        ([("authorization", f"Bearer  {ONE}")], [ONE]),
        ([("cookie", f"a={ONE}; theme=dark; b={TWO}")], [ONE, TWO]),
        ([("cookie", f"a={ONE}"), ("cookie", f"b={TWO}")], [ONE, TWO]),
        ([("authorization", f"Bearer {ONE}"), ("cookie", f"a={TWO}")], [ONE, TWO]),
        ([("authorization", "Basic YTpi"), ("cookie", "a=b; =; ;;")], []),
        ([("authorization", f"Bearer {ONE[:-1]}"), ("cookie", "\xff\0=\xff\0")], []),
        ([("cookie", "; ".join(f"c{number}={ONE}" for number in range(100)))], [ONE]),
        ([("x-api-key", ONE), ("x-other", f'{TWO}, "{ONE}"')], [ONE, TWO]),
        ([("cookie", f"a=%22{ONE}%22; b=Bearer%20{TWO}")], [ONE, TWO]),
        ([("x", f"a{ONE}b {ONE}_ {'a' * 60_000}")], []),
    ],
)
def test_tokens_are_found_wherever_they_are_presented(headers: list[tuple[str, str]], found: list[str]) -> None:
    """Presented tokens are found in any header and any cookie, each once; malformed tokens are not found."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    assert list(presented_texts(HTTPConnection({"type": "http", "headers": raw}))) == found


def test_without_a_request_nothing_is_presented() -> None:
    """Without a request, as in a script, no token is presented."""
    assert list(presented_texts(None)) == []


# the login response


async def test_a_login_returns_the_token_and_its_expiry() -> None:
    """The login response has the fields of RFC 6749 and django-rest-knox's `expiry` in ISO 8601."""
    assert await answer(BEARER, issued()) == {
        "access_token": "knox_secret",
        "token_type": "bearer",
        "expires_in": 3600,
        "expiry": "2030-01-01T13:00:00Z",
    }


async def test_an_endless_login_has_no_expires_in() -> None:
    """A token that never expires has a null `expiry` and no `expires_in`."""
    assert await answer(BEARER, issued(replace(RECORD, expires_at=None))) == {
        "access_token": "knox_secret",
        "token_type": "bearer",
        "expiry": None,
    }


async def test_a_rotation_returns_the_remaining_lifetime() -> None:
    """`expires_in` counts from the moment when the token was issued, not from the login."""
    body = await answer(BEARER, issued(after=HOUR / 4))

    assert (body["expires_in"], body["expiry"]) == (2700, "2030-01-01T13:00:00Z")


async def test_milliseconds_are_answered() -> None:
    """`expiry` includes milliseconds, and `expires_in` is rounded down."""
    body = await answer(BEARER, issued(replace(RECORD, expires_at=NOW + timedelta(milliseconds=1500))))

    assert (body["expires_in"], body["expiry"]) == (1, "2030-01-01T12:00:01.500000Z")


async def test_the_prefix_is_the_token_s_type() -> None:
    """`token_type` is the header prefix, from which clients build the header."""
    body = await answer(KnoxBearerTransport("auth/login", header_prefix="Token"), issued())

    assert body["token_type"] == "token"


@pytest.mark.parametrize("user_schema", [None, UserRead])
async def test_another_strategy_s_token_is_answered_as_it_is(user_schema: type[BaseModel] | None) -> None:
    """A plain `str` of another strategy is returned without expiry and user."""
    transport = KnoxBearerTransport("auth/login", user_schema=user_schema)

    assert await answer(transport, "a.jwt.token") == {"access_token": "a.jwt.token", "token_type": "bearer"}


@pytest.mark.parametrize("token", [issued(), "a.jwt.token"])
async def test_no_cache_keeps_a_login(token: str) -> None:
    """The login response must not be cached (RFC 6749 §5.1, ASVS 14.3.2)."""
    response = await BEARER.get_login_response(token)

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Pragma"] == "no-cache"


async def test_a_logout_answers_nothing() -> None:
    """The logout response is 204 with an empty body."""
    response = await BEARER.get_logout_response()

    assert (response.status_code, response.body) == (204, b"")


# the user in the login response


async def test_the_user_is_answered_by_the_schema() -> None:
    """With `user_schema` the login response contains the user in that schema, without the password."""
    body = await answer(KnoxBearerTransport("auth/login", user_schema=UserRead), issued())

    assert body["user"] == UserRead.model_validate(Ada()).model_dump()
    assert "hashed_password" not in body["user"]


@pytest.mark.parametrize("user_schema", [UserRead, SpokenUserRead])
async def test_the_user_is_answered_as_by_a_route(user_schema: type[BaseModel]) -> None:
    """The user in the login response is serialized as by a route with that `response_model`."""
    app = FastAPI()
    app.get("/me", response_model=user_schema)(Ada)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        expected = (await client.get("/me")).json()

    body = await answer(KnoxBearerTransport("auth/login", user_schema=user_schema), issued())

    assert body["user"] == expected


# another login response


class OwnAnswer(KnoxLoginResponse):
    """A login response with more fields, and with the expiry in another format."""

    session_id: uuid.UUID
    realm: str = "members"

    @field_serializer("expiry")
    def format_expiry(self, expiry: datetime | None) -> str | None:
        """Return the expiry to the minute."""
        return None if expiry is None else f"{expiry:%d.%m.%Y %H:%M}"


class OwnTransport(KnoxBearerTransport):
    """A transport with that login response."""

    response_model = OwnAnswer

    def get_login_content(self, token: IssuedToken) -> dict[str, object]:
        """Add the id of the session."""
        return super().get_login_content(token) | {"session_id": token.record.id}


async def test_an_application_may_change_the_answer() -> None:
    """A subclass with its own model adds fields to the login response and changes the format of the expiry."""
    assert await answer(OwnTransport("auth/login"), issued()) == {
        "access_token": "knox_secret",
        "token_type": "bearer",
        "expires_in": 3600,
        "expiry": "01.01.2030 13:00",
        "session_id": str(RECORD.id),
        "realm": "members",
    }


async def test_another_answer_without_an_expiry() -> None:
    """An endless token has no `expires_in` in any answer, and the application formats its missing expiry."""
    body = await answer(OwnTransport("auth/login"), issued(replace(RECORD, expires_at=None)))

    assert ("expires_in" in body, body["expiry"]) == (False, None)


async def test_another_answer_may_have_the_user() -> None:
    """`user_schema` adds the user to the application's own login response."""
    body = await answer(OwnTransport("auth/login", user_schema=UserRead), issued())

    assert (body["user"]["email"], body["session_id"]) == ("ada@example.org", str(RECORD.id))


async def test_a_model_may_have_the_user_itself() -> None:
    """A model with a field `user` gets the user too, without `user_schema`."""

    class WithUser(KnoxLoginResponse):
        """A login response with the user."""

        user: UserRead

    class Transport(KnoxBearerTransport):
        """A transport with that login response."""

        response_model = WithUser

    body = await answer(Transport("auth/login"), issued())

    assert body["user"] == UserRead.model_validate(Ada()).model_dump()


async def test_another_strategy_s_token_has_no_other_answer() -> None:
    """A plain `str` of another strategy has no record, so the application's own fields are left out."""
    body = await answer(OwnTransport("auth/login"), "a.jwt.token")

    assert body == {"access_token": "a.jwt.token", "token_type": "bearer"}
