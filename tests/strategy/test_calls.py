"""What every call of the strategy has in common: the time, the settings, and what reaches the store and the users."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

import pytest

from fastapi_users_knox import Found, KnoxSettings, KnoxStrategy, PresentedToken, TokenRecord, UserSource
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.models import KnoxToken, User, store_on
from tests.strategies import DEFAULTS, HOUR, NOW, SECOND, Knox, Record, Strategy, request

pytestmark = pytest.mark.unmeasured

Call = Callable[[Strategy, Knox, str, Record], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "read_token": lambda strategy, knox, text, _record: strategy.read_token(text, knox.user_manager),
    "authenticate": lambda strategy, knox, text, _record: strategy.authenticate(text, knox.user_manager),
    "read_record": lambda strategy, _knox, text, _record: strategy.read_record(text),
    "list_records": lambda strategy, knox, _text, _record: strategy.list_records(knox.user),
    "write_token": lambda strategy, knox, _text, _record: strategy.write_token(knox.user),
    "issue by": lambda strategy, knox, _text, record: strategy.issue(knox.user, by=record),
    "rotate_token": lambda strategy, knox, text, _record: strategy.rotate_token(text, knox.user),
    "reauthenticate": lambda strategy, knox, text, _record: strategy.reauthenticate(text, knox.user),
    "destroy_token": lambda strategy, knox, text, _record: strategy.destroy_token(text, knox.user),
    "revoke": lambda strategy, knox, _text, record: strategy.revoke(knox.user, record.id),
    "logout_all": lambda strategy, knox, _text, _record: strategy.logout_all(knox.user),
    "logout_all but one": lambda strategy, knox, text, _record: strategy.logout_all(knox.user, keep=text),
    "revoke_all": lambda strategy, knox, _text, _record: strategy.revoke_all(knox.user.id, reason="admin"),
    "purge": lambda strategy, _knox, _text, _record: strategy.purge(),
}


class Ticking:
    """A clock that counts how often it is read, and moves on each time."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> datetime:
        """Return a later time at each call."""
        self.reads += 1
        return NOW + self.reads * SECOND


class Watching(SQLAlchemyTokenStore[User, uuid.UUID]):
    """A token store that keeps the presented tokens that it receives."""

    def __init__(self, knox: Knox) -> None:
        super().__init__(knox.session, KnoxToken)
        self.presented: list[PresentedToken] = []

    async def get(
        self, token: PresentedToken, *, audience: str, users: UserSource | None = None
    ) -> Found[User, uuid.UUID] | None:
        """Keep the presented token, and find its record."""
        self.presented.append(token)
        return await super().get(token, audience=audience, users=users)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_each_call_reads_the_clock_once(knox: Knox, call: Call) -> None:
    """All that one call decides, it decides for the same moment."""
    issued = await knox.strategy().issue(knox.user)
    clock = Ticking()

    await call(KnoxStrategy(store_on(knox.session), request=None, clock=clock), knox, issued, issued.record)

    assert clock.reads == 1


@pytest.mark.parametrize("attribute", ["store", "settings"])
async def test_the_store_and_the_settings_stay(knox: Knox, attribute: str) -> None:
    """They cannot be assigned, because an assignment that has no effect would look like one that has."""
    strategy: Any = knox.strategy()
    before = getattr(strategy, attribute)

    with pytest.raises(AttributeError, match=attribute):
        setattr(strategy, attribute, KnoxSettings(not_before=NOW + HOUR))

    assert getattr(strategy, attribute) is before


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_no_store_is_given_the_text(knox: Knox, call: Call) -> None:
    """A store sees the tag and the digests of a presented token, so no store can keep the text."""
    issued = await knox.strategy().issue(knox.user)
    store = Watching(knox)
    presenting = request(("Authorization", f"Bearer {issued}"), ("Cookie", f"knox={issued}"))

    await call(KnoxStrategy(store, request=presenting, clock=lambda: NOW), knox, issued, issued.record)

    for token in store.presented:
        values = [getattr(token, name) for name in PresentedToken.__dataclass_fields__]
        assert not any(str(issued) in repr(value) for value in values)


@pytest.mark.parametrize("text", [None, "", "junk", "a.jwt.token", "knox_" + "0" * 51])
async def test_junk_does_not_reach_the_user_manager(knox: Knox, text: str | None) -> None:
    """A text that does not have the shape of a token is refused before the user manager is called."""
    untouchable = cast("Any", object())

    assert await knox.strategy().authenticate(text, untouchable) is None


async def test_a_context_shows_nothing(knox: Knox) -> None:
    """What an error tracker shows of a strategy's local variables contains neither the store nor the settings."""
    strategy = knox.strategy(DEFAULTS)

    shown = repr(vars(strategy))

    assert "KnoxSettings" not in shown
    assert "SQLAlchemyTokenStore" not in shown
    assert isinstance(await strategy.list_records(knox.user), list)


async def test_records_are_of_the_same_moment(knox: Knox) -> None:
    """A record issued `by=` another record is created at the moment at which that record was found live."""
    issued = await knox.strategy().issue(knox.user)
    clock = Ticking()

    second = await KnoxStrategy(store_on(knox.session), request=None, clock=clock).issue(knox.user, by=issued.record)

    record: TokenRecord[Any] = second.record
    assert (record.created_at, record.authenticated_at) == (NOW + SECOND, issued.record.authenticated_at)
