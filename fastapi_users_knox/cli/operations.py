"""What an operator does with a store besides the verbs of `TokenStore`. The stores of this package can do it all."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from fastapi_users_knox.records.finding import Finding
from fastapi_users_knox.records.statistics import Liveness, Statistics
from fastapi_users_knox.store import TokenStore

if TYPE_CHECKING:
    from fastapi_users_knox.redis.store import RedisTokenStore
    from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore

__all__ = ["Operations", "operations_of"]


class Operations(Protocol):
    """The operations of one store. They are not part of `TokenStore`, so a store of your own need not have them."""

    @property
    def counts_cheaply(self) -> bool:
        """Whether the store itself counts expired records, so that the program need not read them."""
        ...

    def parse_id(self, text: str) -> object:
        """Return the user id that is written as this text.

        Raises:
            ValueError: The text is not an id.
        """
        ...

    async def find_users(self, email: str) -> Sequence[object] | None:
        """Return the ids of the users with an e-mail address; `None` if the store cannot read the users."""
        ...

    async def has_user(self, user_id: object) -> bool | None:
        """Return whether there is such a user; `None` if the store cannot read the users."""
        ...

    async def count_expired(self, liveness: Liveness) -> int:
        """Return how many records `TokenStore.purge` would remove."""
        ...

    def purge(self, liveness: Liveness, *, batch_size: int) -> AsyncIterator[int]:
        """Do what `TokenStore.purge` does, one atomic batch after the other, and yield how many records each removed.

        Records that other transactions have locked are skipped, and may be left.
        """
        ...

    async def count(self, liveness: Liveness, *, top: int) -> Statistics:
        """Count the records. The numbers need not be of one moment, if users log in and out meanwhile.

        Args:
            liveness: Which records are live.
            top: How many of the users with the most live records are returned.
        """
        ...

    async def count_users(self) -> int | None:
        """Return how many users have tokens; `None` if that takes as long as finding them all."""
        ...

    def users_with_tokens(self, *, before: datetime | None, keep_scoped: bool) -> AsyncIterator[Sequence[object]]:
        """Find all users who have tokens during the whole iteration, and yield the ids of some at a time.

        Users who do not match may be found too if `before` is not given.

        Args:
            before: If it is given, only users are found who have a token whose login was earlier.
            keep_scoped: Whether tokens with scopes do not count.
        """
        ...

    async def check(self, clock: Callable[[], datetime], *, is_application: bool) -> Sequence[Finding]:
        """Check the store.

        Args:
            clock: The clock of the strategy.
            is_application: Whether the connections are those of the application, with its settings.
        """
        ...


def operations_of(store: TokenStore[Any, Any]) -> Operations | None:
    """Return the operations of a store; `None` for a store of another package."""
    modules = {base.__module__ for base in type(store).__mro__}
    if "fastapi_users_knox.sqlalchemy.store" in modules:
        from fastapi_users_knox.sqlalchemy.operations import SQLOperations  # noqa: PLC0415 (SQLAlchemy is an extra)

        return SQLOperations(cast("SQLAlchemyTokenStore[Any, Any]", store))
    if "fastapi_users_knox.redis.store" in modules:
        from fastapi_users_knox.redis.operations import RedisOperations  # noqa: PLC0415 (Redis is an extra)

        return RedisOperations(cast("RedisTokenStore[Any, Any]", store))
    return None
