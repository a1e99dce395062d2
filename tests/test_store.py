"""The values that a store takes and returns, the issued token, and the memory of attempted writes."""

import copy
import json
import pickle
import uuid
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastapi_users_knox import Added, Credentials, Found, IssuedToken, TokenRecord
from fastapi_users_knox.attempts import Attempts
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
    """A record is live until `now >= expires_at`, and only if it was created at `created_since` or later."""
    assert record.is_live(now, created_since=created_since) == is_live


@pytest.mark.parametrize(("last_used_at", "active_at"), [(None, NOW), (NOW + HOUR, NOW + HOUR)])
def test_a_record_is_active_since_its_last_use(last_used_at: datetime | None, active_at: datetime) -> None:
    """A record's last activity is its last use, or its creation before the first use."""
    assert replace(RECORD, last_used_at=last_used_at).active_at == active_at


def test_a_record_holds_no_token_and_no_digest() -> None:
    """A record has exactly these fields, so it can be logged, listed and sent to the user."""
    assert [field.name for field in fields(TokenRecord)] == [
        *("id", "user_id", "audience", "created_at", "expires_at"),
        *("last_used_at", "name", "device_id", "user_agent", "ip_address", "authenticated_at"),
        *("scopes", "data", "token_ttl", "browser_session"),
    ]


def test_a_stored_record_has_every_field() -> None:
    """A store cannot leave out a field, whose default might accept what should be refused."""
    stored = {name: getattr(RECORD, name) for name in RECORD.__dataclass_fields__}

    assert TokenRecord.from_stored(stored) == RECORD
    del stored["authenticated_at"]
    with pytest.raises(TypeError, match="authenticated_at"):
        TokenRecord.from_stored(stored)


def test_a_record_is_frozen() -> None:
    """A record is frozen."""
    record: Any = RECORD

    with pytest.raises(FrozenInstanceError):
        record.expires_at = None


def test_values_can_be_made_with_their_type_arguments() -> None:
    """The values can be made with explicit type arguments, as an application's own store may do."""
    record = TokenRecord[int](id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=None)

    found, added = Found[User, int](record=record, digest=b""), Added[int](expired=(record,))

    assert (record, found.record, added.expired) == (ENDLESS, ENDLESS, (ENDLESS,))


def test_reprs_hide_digests_and_passwords() -> None:
    """The reprs of a store's arguments and results show no digest and no hashed password."""
    found: Found[User, int] = Found(record=RECORD, digest=b"DIGEST")
    credentials = Credentials(hashed_password="HASHED", is_active=True)

    assert "DIGEST" not in repr(found)
    assert "HASHED" not in repr(credentials)


# the issued token


def issued(record: TokenRecord[int] = RECORD, *, after: timedelta = timedelta(0)) -> IssuedToken:
    """Return an issued token, some time after the record's creation."""
    return IssuedToken("knox_secret", record=record, user="Ada", issued_at=NOW + after)


def test_an_issued_token_is_its_text() -> None:
    """An issued token is a `str`, so FastAPI-Users can pass it on."""
    token = issued()

    assert isinstance(token, str)
    assert token == "knox_secret"
    assert f"{token}" == str(token) == "knox_secret"
    assert json.dumps({"token": token}) == '{"token": "knox_secret"}'


def test_an_issued_token_knows_its_record() -> None:
    """An issued token carries its record, its user and the time of its issue."""
    token = issued(after=HOUR)

    assert (token.record, token.user, token.issued_at) == (RECORD, "Ada", NOW + HOUR)


def test_the_repr_hides_the_token() -> None:
    """The repr shows the record's id and not the token (ASVS 16.2.5)."""
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
    """`expires_in` is the whole seconds left when the token was issued, or None if it never expires."""
    assert issued(record, after=after).expires_in == seconds


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda token: pickle.loads(pickle.dumps(token))])
async def test_an_issued_token_can_be_copied(copied: Callable[[IssuedToken], IssuedToken]) -> None:
    """A copy equals the token, but has no access to the request, so it cannot revoke the cookie's session."""
    revoked: list[str] = []

    async def revoke(cookie_name: str) -> None:
        revoked.append(cookie_name)

    token = IssuedToken("knox_secret", record=RECORD, user="Ada", issued_at=NOW, revoke_cookie_session=revoke)

    other = copied(token)
    await other.revoke_cookie_session("knox")

    assert (other, other.record, other.user, other.issued_at) == (token, token.record, token.user, token.issued_at)
    assert revoked == []


# the memory of attempted writes


def test_one_of_many_claims_succeeds() -> None:
    """Only one claim for a record succeeds until the last attempt is older than `tried_since`."""
    attempts, record_id = Attempts(), uuid.uuid4()

    claims = [
        attempts.claim(record_id, NOW + minutes * MILLISECOND, tried_since=NOW + (minutes - 60) * MILLISECOND)
        for minutes in (0, 0, 30, 60, 61, 62, 121, 122)
    ]

    assert claims == [True, False, False, False, True, False, False, True]


def test_records_do_not_hinder_each_other() -> None:
    """A claim for one record does not affect another record."""
    attempts = Attempts()

    claims = [attempts.claim(uuid.uuid4(), NOW, tried_since=NOW - HOUR) for _ in range(3)]

    assert claims == [True, True, True]


def test_attempts_are_bounded() -> None:
    """If there are too many attempts, the least recently claimed attempts are forgotten."""
    attempts = Attempts()
    ids = [uuid.uuid4() for _ in range(10_001)]
    for record_id in ids[:-1]:
        attempts.claim(record_id, NOW, tried_since=NOW - HOUR)
    attempts.claim(ids[0], NOW, tried_since=NOW - HOUR)

    attempts.claim(ids[-1], NOW, tried_since=NOW - HOUR)

    claims = [attempts.claim(ids[place], NOW, tried_since=NOW - HOUR) for place in (0, 2, -1, 1)]
    assert claims == [False, False, False, True]
