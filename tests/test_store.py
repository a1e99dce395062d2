"""What is stored about a token, and what is handed out for a new one."""

import copy
import json
import pickle
import uuid
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from fastapi_users_knox import Added, Credentials, Found, IssuedToken, TokenRecord
from fastapi_users_knox.store import Attempts
from tests.models import User

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=NOW + HOUR)
ENDLESS = replace(RECORD, expires_at=None)


# the record


@pytest.mark.parametrize(
    ("record", "now", "created_since", "is_live"),
    [
        (RECORD, NOW, None, True),
        (RECORD, NOW + HOUR - MILLISECOND, None, True),
        (RECORD, NOW + HOUR, None, False),
        (RECORD, NOW + HOUR + MILLISECOND, None, False),
        (ENDLESS, NOW + 1_000_000 * HOUR, None, True),
        (RECORD, NOW, NOW - MILLISECOND, True),
        (RECORD, NOW, NOW, True),
        (RECORD, NOW, NOW + MILLISECOND, False),
        (ENDLESS, NOW, NOW + MILLISECOND, False),
        (RECORD, NOW + HOUR, NOW, False),
    ],
)
def test_a_record_is_live_before_its_expiry(
    record: TokenRecord[int], now: datetime, created_since: datetime | None, *, is_live: bool
) -> None:
    """Expired is `now >= expires_at`, and too old is `created_at < created_since`."""
    assert record.is_live(now, created_since=created_since) == is_live


@pytest.mark.parametrize(("last_used_at", "active_at"), [(None, NOW), (NOW + HOUR, NOW + HOUR)])
def test_a_record_is_active_since_its_last_use(last_used_at: datetime | None, active_at: datetime) -> None:
    """Before its first use the login counts."""
    assert replace(RECORD, last_used_at=last_used_at).active_at == active_at


def test_a_record_holds_no_token_and_no_digest() -> None:
    """Its fields are these: it can be logged, listed and sent to the user."""
    assert [field.name for field in fields(TokenRecord)] == [
        *("id", "user_id", "audience", "created_at", "expires_at"),
        *("last_used_at", "name", "device_id", "user_agent", "ip_address", "authenticated_at"),
    ]


def test_a_record_is_frozen() -> None:
    """What was read is not changed."""
    with pytest.raises(FrozenInstanceError):
        RECORD.expires_at = None  # type: ignore[misc]


def test_values_can_be_made_with_their_type_arguments() -> None:
    """A store of one's own may name the type of the ids where it makes a value."""
    record = TokenRecord[int](id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=None)

    found, added = Found[User, int](record=record, digest=b""), Added[int](expired=(record,))

    assert (record, found.record, added.expired) == (ENDLESS, ENDLESS, (ENDLESS,))


def test_reprs_hide_digests_and_passwords() -> None:
    """What a store gives and is given can be logged."""
    found: Found[User, int] = Found(record=RECORD, digest=b"DIGEST")
    credentials = Credentials(hashed_password="HASHED", is_active=True)

    assert "DIGEST" not in repr(found)
    assert "HASHED" not in repr(credentials)


# the issued token


def issued(record: TokenRecord[int] = RECORD, *, after: timedelta = timedelta(0)) -> IssuedToken:
    """Make what a login returns, some time after the record's login."""
    return IssuedToken("knox_secret", record=record, user="Ada", issued_at=NOW + after)


def test_an_issued_token_is_its_text() -> None:
    """It is a `str`, and passes for one wherever FastAPI-Users hands it on."""
    token = issued()

    assert isinstance(token, str)
    assert token == "knox_secret"
    assert f"{token}" == str(token) == "knox_secret"
    assert json.dumps({"token": token}) == '{"token": "knox_secret"}'


def test_an_issued_token_knows_its_record() -> None:
    """It brings along what the transport needs."""
    token = issued(after=HOUR)

    assert (token.record, token.user, token.issued_at) == (RECORD, "Ada", NOW + HOUR)


def test_the_repr_hides_the_token() -> None:
    """A trace that shows its variables holds the record's id, and not the text (ASVS 16.2.5)."""
    token = issued()

    assert repr(token) == f"<IssuedToken {RECORD.id}>"
    assert "secret" not in f"{[token]} {token!r}"


@pytest.mark.parametrize(
    ("record", "after", "seconds"),
    [
        (RECORD, timedelta(0), 3600),
        (RECORD, MILLISECOND, 3599),
        (RECORD, timedelta(minutes=30), 1800),
        (RECORD, HOUR - MILLISECOND, 0),
        (ENDLESS, timedelta(0), None),
    ],
)
def test_expires_in_counts_from_the_making(record: TokenRecord[int], after: timedelta, seconds: int | None) -> None:
    """It is the whole seconds left when this text was made, never more than there are; `None` is for ever."""
    assert issued(record, after=after).expires_in == seconds


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
async def test_an_issued_token_can_be_copied(copied: Callable[[IssuedToken], IssuedToken]) -> None:
    """A copy knows what the token does, but has no way to the request, and so ends nothing."""
    ended: list[str] = []

    async def end(cookie_name: str) -> None:
        ended.append(cookie_name)

    token = IssuedToken("knox_secret", record=RECORD, user="Ada", issued_at=NOW, revoke_cookie_session=end)

    it = copied(token)
    await it.revoke_cookie_session("knox")

    assert (it, it.record, it.user, it.issued_at) == (token, token.record, token.user, token.issued_at)
    assert ended == []


# the attempts


def test_of_many_one_tries() -> None:
    """Whoever comes first tries; the others leave it, till the try is older than they ask for."""
    attempts, record_id = Attempts(), uuid.uuid4()

    claims = [
        attempts.claim(record_id, NOW + minutes * MILLISECOND, tried_since=NOW + (minutes - 60) * MILLISECOND)
        for minutes in (0, 0, 30, 60, 61, 62, 121, 122)
    ]

    assert claims == [True, False, False, False, True, False, False, True]


def test_records_do_not_hinder_each_other() -> None:
    """What was tried for one is free for another."""
    attempts = Attempts()

    claims = [attempts.claim(uuid.uuid4(), NOW, tried_since=NOW - HOUR) for _ in range(3)]

    assert claims == [True, True, True]


def test_attempts_are_bounded() -> None:
    """Of very many records the ones not seen for longest are forgotten, and no others."""
    attempts = Attempts()
    ids = [uuid.uuid4() for _ in range(10_001)]
    for record_id in ids[:-1]:
        attempts.claim(record_id, NOW, tried_since=NOW - HOUR)
    attempts.claim(ids[0], NOW, tried_since=NOW - HOUR)

    attempts.claim(ids[-1], NOW, tried_since=NOW - HOUR)

    claims = [attempts.claim(ids[place], NOW, tried_since=NOW - HOUR) for place in (0, 2, -1, 1)]
    assert claims == [False, False, False, True]
