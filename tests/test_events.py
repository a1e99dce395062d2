"""The events, the description of the client, and the calls of listeners."""

import uuid
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime
from typing import Any, SupportsIndex, cast

import pytest
from fastapi import Request
from fastapi.requests import HTTPConnection
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox import (
    ClientInfo,
    KnoxEvent,
    Listener,
    LoginFailed,
    LoginThrottled,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
    TokenReauthenticated,
    TokenRecord,
    TokenRefreshed,
    TokenRevoked,
    TokenRotated,
    describe_client,
)
from fastapi_users_knox.events import Publisher
from fastapi_users_knox.tokens import generate

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=None)
LENGTHS = {"name": 128, "device_id": 128, "user_agent": 256, "ip_address": 64}


def connection(*headers: tuple[str, str], client: tuple[str, int] | None = ("192.0.2.1", 1234)) -> HTTPConnection:
    """Return a request with these headers."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "client": client})


def issued(*, request: HTTPConnection | None = None) -> TokenIssued[int]:
    """Return an event."""
    return TokenIssued(user_id=1, client=ClientInfo(), request=request, record=RECORD)


# the client's description


def test_the_client_is_described_by_its_headers_and_address() -> None:
    """`describe_client` returns the device's name and id, the user agent and the address."""
    request = connection(("X-Device-Name", "Ada's phone"), ("X-Device-Id", "17"), ("User-Agent", "curl/8"))

    client = describe_client(request)

    assert client == ClientInfo(name="Ada's phone", device_id="17", user_agent="curl/8", ip_address="192.0.2.1")


def test_a_client_that_says_nothing_is_unknown() -> None:
    """Without headers and address, as over a Unix socket, the description is empty."""
    assert describe_client(connection(client=None)) == ClientInfo()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-Ip"])
def test_no_forwarding_header_is_trusted(header: str) -> None:
    """The address is the connection's address, even if the client sends forwarding headers."""
    assert describe_client(connection((header, "198.51.100.7"))).ip_address == "192.0.2.1"


@given(st.fixed_dictionaries({name: st.none() | st.text(st.characters(), max_size=300) for name in LENGTHS}))
def test_any_text_is_made_to_fit(texts: dict[str, str | None]) -> None:
    """Any text of a client is cut to the record's length, without characters that cannot be printed or stored."""
    client = ClientInfo(**texts)

    for name, length in LENGTHS.items():
        text = getattr(client, name)
        assert text is None or (text.isprintable() and 0 < len(text) <= length)
        assert text is None or text in "".join(filter(str.isprintable, texts[name] or ""))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", None),
        ("  \t ", None),
        ("\0\x1b[31m", "[31m"),
        (" curl/8\r\n", "curl/8"),
        ("Käthe\N{MOBILE PHONE}", "Käthe\N{MOBILE PHONE}"),
        ("\ud800", None),
        ("x" * 128, "x" * 128),
        ("x" * 129, "x" * 128),
    ],
    ids=ascii,
)
def test_what_is_kept_of_a_text(text: str, kept: str | None) -> None:
    """NUL, control characters and lone surrogates are removed, and letters of any script are kept."""
    assert ClientInfo(name=text).name == kept


def test_a_text_with_a_token_is_left_out() -> None:
    """A text that contains a token is dropped, because no record or log may hold it."""
    assert ClientInfo(name=f"device {generate('00', prefix='knox_')}").name is None


class CountedText(str):
    """A text that counts how many of its characters are iterated."""

    __slots__ = ("looked_at",)
    looked_at: int

    def __iter__(self) -> Iterator[str]:
        """Iterate over the characters and count them."""
        self.looked_at = 0
        for character in str(self):
            self.looked_at += 1
            yield character

    def __getitem__(self, key: SupportsIndex | slice) -> "CountedText":
        """Return a part, which counts as the whole does."""
        return CountedText(str(self)[key])


@pytest.mark.parametrize(("attribute", "length"), LENGTHS.items())
def test_a_long_text_is_cut_before_it_is_looked_at(attribute: str, length: int) -> None:
    """A long header is cut before its characters are checked."""
    text = CountedText("x" * 60_000)
    text.looked_at = 0

    client = ClientInfo(**{attribute: text})

    assert text.looked_at == 0
    assert getattr(client, attribute) == "x" * length


# the events


@pytest.mark.parametrize(
    ("event", "own"),
    [
        *(
            (event, {"record"})
            for event in (TokenIssued, TokenRefreshed, TokenRotated, TokenReauthenticated, TokenExpired)
        ),
        (TokenRevoked, {"record", "reason"}),
        (TokenLimitHit, {"limit"}),
        (LoginFailed, {"action"}),
        (LoginThrottled, {"action", "counter", "limit", "retry_after"}),
    ],
)
def test_the_fields_of_an_event(event: type[KnoxEvent[int]], own: set[str]) -> None:
    """An event has the user's id, the client, the request and its own fields, and never the token."""
    assert issubclass(event, KnoxEvent)
    assert {field.name for field in fields(event)} == {"user_id", "client", "request"} | own


def test_events_are_frozen() -> None:
    """An event is frozen, so no listener can change what the next listener receives."""
    event: Any = issued()

    with pytest.raises(FrozenInstanceError):
        event.user_id = 2


def test_the_request_stays_out_of_the_repr() -> None:
    """The repr of an event leaves out the request, whose headers hold the token."""
    event = issued(request=connection(("Authorization", "Bearer secret")))

    assert "secret" not in repr(event)
    assert "request" not in repr(event)
    assert event == issued()


async def test_the_request_of_a_failed_login_has_no_body() -> None:
    """The request in the events of a login has its headers, but not the form, which contains the password."""
    scope = {"type": "http", "method": "POST", "headers": [(b"user-agent", b"curl/8")], "client": None}
    request = Request(scope, receive=cast("Any", None))
    vars(request)["_body"] = b"username=ada&password=secret"

    event = LoginFailed(user_id=1, client=ClientInfo(), action="login", request=request)

    assert event.request is not None
    assert event.request.headers["User-Agent"] == "curl/8"
    assert "secret" not in str(vars(event.request))


# the listeners


def publisher(*listeners: Listener, request: HTTPConnection | None = None) -> Publisher:
    """Return a publisher with these listeners."""
    return Publisher(listeners, request, describe_client)


async def test_listeners_are_called_in_turn() -> None:
    """Each listener, `async` or not, is called once, in order, with the described client."""
    received: list[object] = []
    request = connection(("User-Agent", "curl/8"))
    event = TokenIssued(user_id=1, client=describe_client(request), request=request, record=RECORD)

    def plain(event: object) -> None:
        received.append(("plain", event))

    async def awaited(event: object) -> None:
        received.append(("awaited", event))

    await publisher(awaited, plain, request=request).publish(TokenIssued, 1, record=RECORD)

    assert received == [("awaited", event), ("plain", event)]


async def test_a_listener_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The error of a listener is logged with the event's name and a traceback, and the next one is called."""
    received: list[object] = []

    def broken(_event: object) -> None:
        raise ZeroDivisionError

    async def broken_later(_event: object) -> None:
        raise ZeroDivisionError

    await publisher(broken, broken_later, received.append).publish(TokenIssued, 1, record=RECORD)

    assert received == [issued()]
    assert [(record.name, record.levelname) for record in caplog.records] == [("fastapi_users_knox", "ERROR")] * 2
    assert caplog.text.count("TokenIssued") == 2
    assert caplog.text.count("Traceback") == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_the_client_is_described_once(caplog: pytest.LogCaptureFixture, *, fails: bool) -> None:
    """A request's client is described once for all its events, and a failure to do so is logged once."""
    described: list[HTTPConnection] = []
    received: list[TokenIssued[int]] = []

    def describe(request: HTTPConnection) -> ClientInfo:
        described.append(request)
        if fails:
            raise ZeroDivisionError
        return ClientInfo(name="phone")

    shared = Publisher([received.append], connection(), describe)
    for _ in range(300):
        await shared.publish(TokenIssued, 1, record=RECORD)

    assert len(described) == 1
    assert [event.client for event in received] == [ClientInfo(name=None if fails else "phone")] * 300
    assert shared.client() is received[0].client
    assert caplog.text.count("describe_client raised") == fails


async def test_nobody_has_to_listen() -> None:
    """Without listeners nothing happens, and the client is not described."""

    def describe(_connection: HTTPConnection) -> ClientInfo:
        raise ZeroDivisionError

    await Publisher([], connection(), describe).publish(TokenIssued, 1, record=RECORD)
