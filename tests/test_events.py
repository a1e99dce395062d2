"""The events, and how they are published."""

import uuid
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime
from typing import SupportsIndex

import pytest
from fastapi.requests import HTTPConnection
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox import (
    ClientInfo,
    KnoxEvent,
    Listener,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
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
    """Make a request with these headers."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "client": client})


def issued(*, request: HTTPConnection | None = None) -> TokenIssued[int]:
    """Make an event."""
    return TokenIssued(user_id=1, client=ClientInfo(), request=request, record=RECORD)


# the client


def test_the_client_is_described_by_its_headers_and_address() -> None:
    """Name, device, program and address are noted."""
    request = connection(("X-Device-Name", "Ada's phone"), ("X-Device-Id", "17"), ("User-Agent", "curl/8"))

    client = describe_client(request)

    assert client == ClientInfo(name="Ada's phone", device_id="17", user_agent="curl/8", ip_address="192.0.2.1")


def test_a_client_that_says_nothing_is_unknown() -> None:
    """Without headers and address, as over a Unix socket, nothing is noted."""
    assert describe_client(connection(client=None)) == ClientInfo()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-Ip"])
def test_no_forwarding_header_is_trusted(header: str) -> None:
    """The address is the connection's, whatever the client claims."""
    assert describe_client(connection((header, "198.51.100.7"))).ip_address == "192.0.2.1"


@given(st.fixed_dictionaries({name: st.none() | st.text(st.characters(), max_size=300) for name in LENGTHS}))
def test_any_text_is_made_to_fit(texts: dict[str, str | None]) -> None:
    """Whatever a client sends is cut to what a record holds, and what cannot be printed or stored is left out."""
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
    """NUL, control characters and lone surrogates go; letters of any script stay."""
    assert ClientInfo(name=text).name == kept


def test_a_text_with_a_token_is_left_out() -> None:
    """A client may send a token in any header, and no record or log is to hold it."""
    assert ClientInfo(name=f"device {generate('00', prefix='knox_')}").name is None


class CountedText(str):
    """A text that counts how many of its characters are looked at one by one."""

    __slots__ = ("looked_at",)
    looked_at: int

    def __iter__(self) -> Iterator[str]:
        """Go through the characters, and count them."""
        self.looked_at = 0
        for character in str(self):
            self.looked_at += 1
            yield character

    def __getitem__(self, key: SupportsIndex | slice) -> "CountedText":
        """Cut as text is cut; the part counts for the whole."""
        return CountedText(str(self)[key])


@pytest.mark.parametrize(("attribute", "length"), LENGTHS.items())
def test_a_long_text_is_cut_before_it_is_looked_at(attribute: str, length: int) -> None:
    """However long a header is, no more of it is looked at than is kept."""
    text = CountedText("x" * 60_000)
    text.looked_at = 0

    client = ClientInfo(**{attribute: text})

    assert text.looked_at == 0
    assert getattr(client, attribute) == "x" * length


# the events


@pytest.mark.parametrize(
    ("event", "own"),
    [
        *((event, {"record"}) for event in (TokenIssued, TokenRefreshed, TokenRotated, TokenExpired)),
        (TokenRevoked, {"record", "reason"}),
        (TokenLimitHit, {"limit"}),
    ],
)
def test_what_an_event_tells(event: type[KnoxEvent[int]], own: set[str]) -> None:
    """Each event has the user, the client and the record, and none has the text of a token."""
    assert issubclass(event, KnoxEvent)
    assert {field.name for field in fields(event)} == {"user_id", "client", "request"} | own


def test_events_are_frozen() -> None:
    """No listener changes what the next one receives."""
    with pytest.raises(FrozenInstanceError):
        issued().user_id = 2  # type: ignore[misc]


def test_the_request_stays_out_of_the_repr() -> None:
    """An event can be logged, though the request's headers hold the token."""
    event = issued(request=connection(("Authorization", "Bearer secret")))

    assert "secret" not in repr(event)
    assert "request" not in repr(event)
    assert event == issued()


# the listeners


def publisher(*listeners: Listener, request: HTTPConnection | None = None) -> Publisher:
    """Make the publisher."""
    return Publisher(listeners, request, describe_client)


async def test_listeners_are_called_in_turn() -> None:
    """Each listener, `async` or not, is called once, in the order given, with the client."""
    heard: list[object] = []
    asking = connection(("User-Agent", "curl/8"))
    event = TokenIssued(user_id=1, client=describe_client(asking), request=asking, record=RECORD)

    def plain(event: object) -> None:
        heard.append(("plain", event))

    async def awaited(event: object) -> None:
        heard.append(("awaited", event))

    await publisher(awaited, plain, request=asking).publish(TokenIssued, 1, record=RECORD)

    assert heard == [("awaited", event), ("plain", event)]


async def test_a_listener_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged with the event's name and a traceback, and the next one is called."""
    heard: list[object] = []

    def broken(_event: object) -> None:
        raise ZeroDivisionError

    async def broken_later(_event: object) -> None:
        raise ZeroDivisionError

    await publisher(broken, broken_later, heard.append).publish(TokenIssued, 1, record=RECORD)

    assert heard == [issued()]
    assert [(record.name, record.levelname) for record in caplog.records] == [("fastapi_users_knox", "ERROR")] * 2
    assert caplog.text.count("TokenIssued") == 2
    assert caplog.text.count("Traceback") == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_the_client_is_described_once(caplog: pytest.LogCaptureFixture, *, fails: bool) -> None:
    """However many events a request causes, its client is described once, and a failure to do so is logged once."""
    described: list[HTTPConnection] = []
    heard: list[TokenIssued[int]] = []

    def describe(request: HTTPConnection) -> ClientInfo:
        described.append(request)
        if fails:
            raise ZeroDivisionError
        return ClientInfo(name="phone")

    asking = Publisher([heard.append], connection(), describe)
    for _ in range(300):
        await asking.publish(TokenIssued, 1, record=RECORD)

    assert len(described) == 1
    assert [event.client for event in heard] == [ClientInfo(name=None if fails else "phone")] * 300
    assert asking.client() is heard[0].client
    assert caplog.text.count("describe_client raised") == fails


async def test_nobody_has_to_listen() -> None:
    """Without listeners nothing happens: not even the client is described."""

    def describe(_connection: HTTPConnection) -> ClientInfo:
        raise ZeroDivisionError

    await Publisher([], connection(), describe).publish(TokenIssued, 1, record=RECORD)
