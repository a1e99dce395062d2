"""What an operator does with tokens in Redis besides the verbs of the store."""

from collections.abc import Sequence
from typing import Any

from fastapi_users_knox.redis.store import RedisTokenStore

__all__ = ["RedisOperations"]


class RedisOperations:
    """The operations of a store in Redis."""

    def __init__(self, store: RedisTokenStore[Any, Any]) -> None:
        """Use the client and the keys of the store."""
        self._parse_id = store._parse_id  # noqa: SLF001 (of the same part of the package)

    def parse_id(self, text: str) -> object:
        """Return the user id that is written as this text."""
        user_id: object = self._parse_id(text)
        return user_id

    async def find_users(self, email: str) -> Sequence[object] | None:  # noqa: ARG002 (the store does not see the users)
        """Return `None`, because the users are not in Redis."""
        return None

    async def has_user(self, user_id: object) -> bool | None:  # noqa: ARG002 (as above)
        """Return `None`, because the users are not in Redis."""
        return None
