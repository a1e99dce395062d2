"""The names of the keys in Redis. All keys of one user contain the same tag, so they are in one slot of a cluster."""

import re
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Self

from fastapi_users_knox.redis.records import text_of
from fastapi_users_knox.redis.scripts import Client, raising_unavailable
from fastapi_users_knox.tokens import routing_tag

__all__ = ["Keys", "catalogue_beside", "keys_beside", "new_answer_key", "user_id_in"]

_USERS = re.compile(r"[A-Za-z0-9_.-]{0,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The names of the keys of one user table.

    Attributes:
        prefix: The text that all keys begin with.
    """

    prefix: str

    @classmethod
    def of_table(cls, users: str, *, key_prefix: str) -> Self:
        """Return the names for a user table.

        Raises:
            ValueError: `users` or `key_prefix` contains characters that are not allowed.
        """
        if not _USERS.fullmatch(users):
            raise ValueError("users must be at most 64 letters, digits, '_', '.' or '-'")
        if "{" in key_prefix or "}" in key_prefix:
            raise ValueError("key_prefix must not contain braces")
        return cls(prefix=f"{key_prefix}{users}:" if users else key_prefix)

    def index(self, user_id: object) -> str:
        """Return the key of a user's index."""
        return f"{self._base(routing_tag(user_id))}user:{user_id}"

    def of_user(self, user_id: object) -> list[str]:
        """Return the keys of a user's index and catalogue."""
        index = self.index(user_id)
        return [index, catalogue_beside(index)]

    def record(self, user_id: object, digest: bytes) -> str:
        """Return the key under which a user's record with this digest is stored."""
        return self.presented(routing_tag(user_id), digest)

    def presented(self, tag: str, digest: bytes) -> str:
        """Return the key of the record of a presented token with this routing tag."""
        return f"{self._base(tag)}{text_of(digest)}"

    async def find_indexes(self, client: Client, *, batch_size: int) -> AsyncIterator[str]:
        """Find the indexes of all users; `batch_size` is the number of keys that Redis examines in one round trip."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self.prefix) + "{??}:user:*"  # A tag has two characters.
        with raising_unavailable():
            async for key in client.scan_iter(match=pattern.encode(), count=batch_size):
                yield key.decode() if isinstance(key, bytes) else key

    def _base(self, tag: str) -> str:
        return f"{self.prefix}{{{tag}}}:"


def catalogue_beside(index: str) -> str:
    """Return the key of a user's catalogue, in the same slot as the index."""
    return index.replace("}:user:", "}:catalogue:", 1)


def new_answer_key(index: str) -> str:
    """Return a new key, in the same slot as the index, for the answer of one call."""
    return f"{index.partition('}:')[0]}}}:answer:{secrets.token_hex(8)}"


def user_id_in(index: str) -> str:
    """Return the user's id, as text, which the key of an index contains."""
    return index.partition("}:user:")[2]


def keys_beside(index: str, digests: Iterable[str]) -> list[str]:
    """Return the keys of records of the user whose index this is."""
    base = index.partition("}:")[0]
    return [f"{base}}}:{digest}" for digest in digests]
