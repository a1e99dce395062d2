"""The cookie transport: the cookie's attributes, its validation, the token in it, and the log of refused origins."""

import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.requests import HTTPConnection
from fastapi_users.authentication import CookieTransport

from fastapi_users_knox import IssuedToken, KnoxCookieMiddleware, KnoxCookieTransport, TokenRecord
from fastapi_users_knox.transports.presented import CookieToken
from fastapi_users_knox.transports.renewal import note_refreshed

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=NOW + HOUR)
UNSIGNED = "knox_secret"


def issued(expires_at: datetime | None, *, issued_at: datetime = NOW) -> IssuedToken:
    """Return a token as a strategy passes it to the transport."""
    return IssuedToken(UNSIGNED, record=replace(RECORD, expires_at=expires_at), user=None, issued_at=issued_at)


def attributes(header: str) -> dict[str, str]:
    """Return the parts of a `Set-Cookie` header by name."""
    parts = [part.partition("=") for part in header.split("; ")]
    return {name: value for name, _, value in parts}


async def login_cookie(token: str, **options: Any) -> dict[str, str]:
    """Log in, and return the parts of the cookie by name."""
    response = await KnoxCookieTransport(**options).get_login_response(token)
    return attributes(response.headers["Set-Cookie"])


@pytest.mark.parametrize(
    ("token", "max_age"),
    [
        (issued(NOW + HOUR), 3600),
        (issued(NOW + HOUR, issued_at=NOW + HOUR / 4), 2700),
        (issued(NOW + timedelta(milliseconds=1999)), 1),
        (issued(NOW + timedelta(days=400)), 400 * 86400),
        (issued(NOW + timedelta(days=401)), 400 * 86400),
        (issued(None), 400 * 86400),
    ],
)
async def test_the_cookie_lives_as_long_as_the_token(token: IssuedToken, max_age: int) -> None:
    """Max-Age is the rest of the token's life in seconds, but at most the maximum of browsers."""
    assert await login_cookie(token) == {
        "__Host-knox": UNSIGNED,
        "HttpOnly": "",
        "Max-Age": str(max_age),
        "Path": "/",
        "SameSite": "lax",
        "Secure": "",
    }


@pytest.mark.parametrize(
    "options",
    [
        *({"cookie_name": name, "cookie_path": "/a"} for name in ("a b", "k;x", "", "käse", "a=b")),
        *({"cookie_name": "knox", "cookie_path": path} for path in ("", "api", "/a;b", "/\n")),
        *({"cookie_name": "knox", "cookie_domain": domain} for domain in ("https://x.org", "x.org;", "x org")),
        *({"cookie_samesite": same_site} for same_site in ("None", "bogus")),
    ],
)
async def test_what_no_header_can_hold_is_refused_at_once(options: dict[str, Any]) -> None:
    """A cookie name, path, domain or SameSite that is invalid in a header raises a ValueError."""
    with pytest.raises(ValueError, match=f"{list(options)[-1]}|cookie_name"):
        KnoxCookieTransport(**options)


async def test_a_cookie_that_came_several_times_hides_its_values() -> None:
    """The repr of a cookie that was sent several times shows none of its values."""
    assert "secret" not in repr(CookieToken("knox_secret", "another_secret"))


async def test_another_strategy_s_token_ends_with_the_browser() -> None:
    """A plain `str` of another strategy is set as a cookie that lasts until the browser is closed."""
    assert "Max-Age" not in await login_cookie("a.jwt.token")


@pytest.mark.parametrize("expires_at", [NOW + HOUR, None])
async def test_a_browser_session_ends_with_the_browser(expires_at: datetime | None) -> None:
    """The cookie of a browser session has no Max-Age, whenever its token expires."""
    record = replace(RECORD, expires_at=expires_at, browser_session=True)

    cookie = await login_cookie(IssuedToken(UNSIGNED, record=record, user=None, issued_at=NOW))

    assert "Max-Age" not in cookie


async def test_the_options_set_the_cookie_s_attributes() -> None:
    """The options of FastAPI-Users' `CookieTransport` set the cookie's attributes."""
    cookie = await login_cookie(
        issued(NOW + HOUR),
        cookie_name="knox",
        cookie_path="/api",
        cookie_domain="example.org",
        cookie_secure=False,
        cookie_httponly=False,
        cookie_samesite="strict",
    )

    assert cookie == {
        "knox": UNSIGNED,
        "Domain": "example.org",
        "Max-Age": "3600",
        "Path": "/api",
        "SameSite": "strict",
    }


async def test_a_logout_deletes_the_cookie() -> None:
    """The cookie is deleted with the attributes that it was set with, because a browser would keep it otherwise."""
    options: dict[str, Any] = {"cookie_name": "knox", "cookie_path": "/api", "cookie_domain": "example.org"}
    response = await KnoxCookieTransport(**options).get_logout_response()

    assert attributes(response.headers["Set-Cookie"]) == {
        "knox": '""',
        "Domain": "example.org",
        "HttpOnly": "",
        "Max-Age": "0",
        "Path": "/api",
        "SameSite": "lax",
        "Secure": "",
    }


async def test_a_partitioned_cookie_is_so_wherever_it_is_set() -> None:
    """Login, renewal and logout all set Partitioned, because browsers would keep two cookies otherwise (CHIPS)."""
    transport = KnoxCookieTransport(partitioned=True, cookie_samesite="none")
    connection = HTTPConnection({"type": "http", "method": "GET", "headers": [(b"cookie", b"__Host-knox=knox_secret")]})
    login = await transport.get_login_response(issued(NOW + HOUR))
    logout = await transport.get_logout_response()
    renewal = await answer_of_a_refresh(transport, connection)

    cookies = [attributes(value) for value in (login.headers["Set-Cookie"], logout.headers["Set-Cookie"], renewal)]
    common = {"HttpOnly": "", "Path": "/", "SameSite": "none", "Secure": "", "Partitioned": ""}
    assert cookies == [
        {"__Host-knox": UNSIGNED, "Max-Age": "3600", **common},
        {"__Host-knox": '""', "Max-Age": "0", **common},
        {"__Host-knox": UNSIGNED, "Max-Age": "3600", **common},
    ]


async def test_a_cookie_is_not_partitioned_by_default() -> None:
    """By default the cookie is not partitioned, so it is the same in all sites that embed this one."""
    assert "Partitioned" not in await login_cookie(issued(NOW + HOUR))


async def answer_of_a_refresh(transport: KnoxCookieTransport, connection: HTTPConnection) -> str:
    """Refresh the token of the request's cookie, and return the `Set-Cookie` of the response."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        token: Any = await transport.scheme(connection)
        note_refreshed(connection, token, record=RECORD)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    await KnoxCookieMiddleware(app)(connection.scope, receive, send)
    [cookie] = [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]
    return str(cookie)


async def test_what_the_middleware_notes_holds_no_token() -> None:
    """The repr of what a refresh stores in the connection's scope shows no token."""
    connection = HTTPConnection({"type": "http", "method": "GET", "headers": [(b"cookie", b"__Host-knox=knox_secret")]})

    assert UNSIGNED in await answer_of_a_refresh(KnoxCookieTransport(), connection)

    notes = {key: value for key, value in connection.scope.items() if key.startswith("fastapi_users_knox")}
    assert "__Host-knox" in repr(notes)
    assert UNSIGNED not in repr(notes)


async def test_no_cache_keeps_a_login_or_a_logout() -> None:
    """Login and logout have an empty body and must not be cached (ASVS 14.3.2)."""
    transport = KnoxCookieTransport()
    for response in (await transport.get_login_response(issued(None)), await transport.get_logout_response()):
        assert (response.status_code, response.body) == (204, b"")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Pragma"] == "no-cache"


async def test_a_subclass_answers_what_it_likes() -> None:
    """A subclass can change the login response, such as to redirect, as with FastAPI-Users' transport."""

    class Redirecting(KnoxCookieTransport):
        async def get_login_response(self, token: str) -> Response:
            return self._set_login_cookie(Response(status_code=303, headers={"Location": "/home"}), token)

    response = await Redirecting().get_login_response(issued(NOW + HOUR))

    assert response.status_code == 303
    assert "Max-Age=3600" in response.headers["Set-Cookie"]
    assert isinstance(Redirecting(), CookieTransport)


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_secure": False},
        {"cookie_path": "/api"},
        {"cookie_domain": "example.org"},
        {"cookie_domain": ""},
        {"cookie_name": "__host-KNOX", "cookie_secure": False},
        {"cookie_name": "__Secure-knox", "cookie_secure": False},
        {"cookie_name": "__SECURE-knox", "cookie_secure": False},
        {"cookie_name": "knox", "cookie_samesite": "none", "cookie_secure": False},
        {"cookie_name": "knox", "partitioned": True, "cookie_secure": False},
        {"cookie_name": "__Http-knox", "cookie_secure": False},
        {"cookie_name": "__hTTP-knox", "cookie_secure": False},
        {"cookie_name": "__Host-Http-knox", "cookie_secure": False},
        {"cookie_name": "__Host-Http-knox", "cookie_path": "/api"},
        {"cookie_name": "__HOST-http-knox", "cookie_domain": "example.org"},
    ],
)
def test_a_cookie_that_browsers_refuse_is_refused_at_once(options: dict[str, Any]) -> None:
    """Attributes that the name's prefix or SameSite=None forbids raise a ValueError (RFC 6265bis §4.1.3)."""
    with pytest.raises(ValueError, match="must be secure"):
        KnoxCookieTransport(**options)


@pytest.mark.parametrize("name", ["__Http-knox", "__HTTP-knox", "__Host-Http-knox", "__hOST-hTTP-knox"])
def test_the_prefix_http_requires_httponly(name: str) -> None:
    """A name with the prefix `__Http-` or `__Host-Http-` requires HttpOnly, in any case of letters."""
    with pytest.raises(ValueError, match="must be HttpOnly: pass cookie_httponly=True"):
        KnoxCookieTransport(name, cookie_httponly=False)


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "__Http-knox", "cookie_path": "/api", "cookie_domain": "example.org"},
        {"cookie_name": "__Host-Http-knox"},
        {"cookie_name": "__Host-knox", "cookie_httponly": False},
        {"cookie_name": "__Secure-knox", "cookie_httponly": False},
        {"cookie_name": "knox__Http-", "cookie_httponly": False, "cookie_secure": False},
        {"partitioned": True, "cookie_samesite": "none"},
        {"partitioned": True},
        {"cookie_name": "__Secure-knox", "cookie_path": "/api", "cookie_domain": "example.org"},
        {"cookie_name": "knox", "cookie_secure": False},
        {"cookie_samesite": "none"},
        {"cookie_samesite": "strict"},
    ],
)
def test_a_cookie_that_browsers_accept_is_accepted(options: dict[str, Any]) -> None:
    """Combinations of options that browsers accept are accepted."""
    assert KnoxCookieTransport(**options)


@pytest.mark.parametrize(
    "origins",
    [
        ["*"],
        ["null"],
        [""],
        ["app.example.org"],
        ["https://"],
        ["https://app.example.org/"],
        ["https://*.example.org"],
        ["https://app.example.org,https://b.example.org"],
        ["https://user@app.example.org"],
        ["https://app.example.org "],
        "https://app.example.org",
    ],
)
def test_a_trusted_origin_is_an_origin(origins: Any) -> None:
    """An entry of `trusted_origins` that is not exactly one origin raises a ValueError."""
    with pytest.raises(ValueError, match="is not a valid origin"):
        KnoxCookieTransport(trusted_origins=origins)


@pytest.mark.parametrize("type_", ["http", "websocket"])
@pytest.mark.parametrize(
    ("cookie", "token"),
    [
        (b"__Host-knox=knox_secret", "knox_secret"),
        (b"theme=dark; __Host-knox=knox_secret", "knox_secret"),
        (b"__Host-knox=", None),
        (b"__Host-knox", None),
        (b"knox=knox_secret", None),
        (b"\xff\0", None),
        (None, None),
    ],
)
async def test_the_token_is_taken_from_the_cookie(type_: str, cookie: bytes | None, token: str | None) -> None:
    """The token is taken from the cookie of any connection, with or without the middleware."""
    headers = [] if cookie is None else [(b"cookie", cookie)]
    scheme: Any = KnoxCookieTransport().scheme

    assert await scheme(HTTPConnection({"type": type_, "headers": headers})) == token


class Refusing:
    """A transport with a clock that the test sets, and WebSockets that it refuses."""

    def __init__(self) -> None:
        self.now = 0.0
        self._transport = KnoxCookieTransport(clock=lambda: self.now)

    async def refuse(self, *origins: str) -> None:
        """Open a WebSocket from each origin, and require that it is refused."""
        for origin in origins:
            headers = [
                (b"host", b"api.example.org"),
                (b"origin", origin.encode()),
                (b"cookie", b"__Host-knox=knox_secret"),
            ]
            connection = HTTPConnection({"type": "websocket", "scheme": "wss", "headers": headers})
            assert await self._transport.scheme(connection) is None


INVENTED = [f"https://app{number}.example.org" for number in range(200)]


async def test_a_refusal_is_logged_once_for_each_origin(caplog: pytest.LogCaptureFixture) -> None:
    """Each refused origin is logged once, at most 100 of them, and never with the token."""
    await Refusing().refuse(INVENTED[0], INVENTED[0], *INVENTED)

    assert len(caplog.records) == 100
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "'https://app0.example.org'" in caplog.messages[0]
    assert "'https://api.example.org'" in caplog.messages[0]
    assert "knox_secret" not in caplog.text


async def test_invented_origins_blind_the_log_for_a_minute_only(caplog: pytest.LogCaptureFixture) -> None:
    """After a minute refusals are logged again, with the number of those that were not logged."""
    refusing = Refusing()
    await refusing.refuse(*INVENTED)
    refusing.now = 59.9
    await refusing.refuse("https://forgotten.example.org", INVENTED[0])
    caplog.clear()

    refusing.now = 60.0
    await refusing.refuse("https://forgotten.example.org", INVENTED[0])

    assert ["https://forgotten.example.org" in message for message in caplog.messages] == [True, False]
    assert INVENTED[0] in caplog.messages[1]
    assert [message.endswith("the last such line: 102)") for message in caplog.messages] == [True, False]
    assert caplog.messages[1].endswith("the last such line: 0)")


async def test_an_origin_that_is_refused_often_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """An origin is logged once a minute, with the number of its refusals in between."""
    refusing = Refusing()
    for minute in range(3):
        refusing.now = 60.0 * minute
        await refusing.refuse(*[INVENTED[0]] * 10)

    assert [int(message.rpartition(" ")[2].rstrip(")")) for message in caplog.messages] == [0, 9, 9]


def test_the_cookie_is_documented() -> None:
    """OpenAPI documents the cookie's name and the responses of login and logout."""
    transport = KnoxCookieTransport(scheme_name="Browsers")
    app = FastAPI()

    @app.post("/login", status_code=204, responses=transport.get_openapi_login_responses_success())
    async def login() -> None:
        """Log in."""

    scheme: Any = transport.scheme
    assert scheme.scheme_name == "Browsers"
    assert scheme.model.model_dump(mode="json", exclude_none=True, by_alias=True) == {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-knox",
    }
    assert {"204", "403", "503"} <= app.openapi()["paths"]["/login"]["post"]["responses"].keys()
    assert transport.get_openapi_logout_responses_success().keys() == {204}


@pytest.mark.parametrize("space", [b"\xa0", b"\x85", b"\x1c"])
async def test_a_disguised_name_is_another_name(space: bytes) -> None:
    """A cookie is ignored if its name differs from the transport's only by white space that `str.strip` removes."""
    cookies = b"__Host-knox=good; " + space + b"__Host-knox=planted"
    connection = HTTPConnection({"type": "http", "method": "GET", "headers": [(b"cookie", cookies)]})

    assert await KnoxCookieTransport().scheme(connection) == "good"
