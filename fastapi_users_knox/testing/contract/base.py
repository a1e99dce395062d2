"""What the tests of all verbs share: the times, the fixtures, and functions that make records and call the store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest

from fastapi_users_knox import tokens
from fastapi_users_knox.records import Credentials, Found, TokenRecord
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.tokens import PresentedToken

__all__ = [
    "CALLERS",
    "FEW_CALLERS",
    "HOUR",
    "NOW",
    "SECOND",
    "OpenStore",
    "Promises",
    "Store",
    "add",
    "at_once",
    "find",
    "new_digest",
    "new_record",
    "presented",
]

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
CALLERS = 20
FEW_CALLERS = 10  # SQLite does not serve writers in turn, so with more of them in a loop, one may wait long.

T = TypeVar("T")
Store = TokenStore[Any, Any]
OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


class Promises:
    """The fixtures of all tests, made from the three fixtures that a subclass of `TokenStoreContract` defines."""

    pytestmark: ClassVar[pytest.MarkDecorator] = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run the tests on asyncio."""
        return "asyncio"

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        """Open the store that most tests use."""
        async with open_store() as store:
            yield store

    @pytest.fixture
    def user_id(self, user_ids: Sequence[Any]) -> Any:
        """Return the id of the user that most tests use."""
        return user_ids[0]

    @pytest.fixture
    def credentials(self) -> Credentials:
        """Return the credentials of the users, which only a store that sees the users reads."""
        return Credentials(hashed_password="hash", is_active=True)


def new_digest() -> bytes:
    """Return the digest of a new token."""
    return tokens.digest(tokens.generate("00", prefix=""))


def new_record(user_id: object, **fields: Any) -> TokenRecord[Any]:
    """Return a record that was created at `NOW` and expires an hour later, unless other fields are passed."""
    usual = TokenRecord(id=uuid4(), user_id=user_id, audience="web", created_at=NOW, expires_at=NOW + HOUR)
    return replace(usual, **fields)


def presented(user_id: object, *digests: bytes) -> PresentedToken:
    """Return a user's token in the form in which a strategy passes it to `get`, with the digests to look for."""
    return PresentedToken(tag=tokens.routing_tag(user_id), digests=digests)


async def find(store: Store, record: TokenRecord[Any], digest: bytes) -> Found[Any, Any] | None:
    """Call `get` for the record's user and audience, with one digest."""
    return await store.get(presented(record.user_id, digest), audience=record.audience)


async def add(store: Store, record: TokenRecord[Any], **options: Any) -> Found[Any, Any]:
    """Add a record under a new digest, with its `created_at` as the current time, and return it as `get` would."""
    digest = new_digest()
    await store.add(record, digest, now=record.created_at, **options)
    return Found(record=record, digest=digest)


async def at_once(open_store: OpenStore, call: Callable[[Store], Awaitable[T]], *, callers: int = CALLERS) -> list[T]:
    """Open a store for each caller, then let all of them call at the same time, and return their results."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store()) for _ in range(callers)]
        return await asyncio.gather(*(call(store) for store in stores))
