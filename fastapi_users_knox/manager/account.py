"""What updating and deleting a user have in common: the checks beforehand, and the handling of errors."""

import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi_users.db import BaseUserDatabase
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import describe
from fastapi_users_knox.manager.revocation import Revocation, Seen
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.users import StoredUser, Users, users_of

__all__ = ["Account", "found_or"]

T = TypeVar("T")

_logger = logging.getLogger("fastapi_users_knox")


@dataclass(frozen=True, kw_only=True)
class Account(Generic[UP, ID]):
    """The users of one user manager and the tokens of these users, which must change together.

    A change of a user and the revocation of the tokens run to the end in one task. So a cancellation cannot separate
    the revocation from the change, and it is always known whether the change is stored. If the change succeeds, it is
    committed and the tokens are revoked. If the change raises an error, nothing more is committed, and the tokens are
    revoked only if the change is already committed. The tokens are also revoked if the committed state cannot be read.

    Attributes:
        user_db: The database of the users.
        revocation: The stores of the users' tokens.
        manager: The user manager that makes the changes.
    """

    user_db: BaseUserDatabase[UP, ID]
    revocation: Revocation[UP, ID]
    manager: object

    @property
    def users(self) -> Users[UP, ID]:
        """The stored state of the users."""
        return users_of(self.user_db)

    async def in_one_task(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work to its end in a separate task, which uses the session of this task."""
        sharing = self.users.sharing_session()

        async def run() -> T:
            with sharing:
                return await work

        return await run_to_the_end(run())

    async def check(self, user: UP) -> Seen[UP, ID]:
        """Return the user's live records, or raise an error if the tokens could not be revoked after a change.

        Raises:
            StoreUnavailable: A token store cannot be read.
            KnoxError: The session of the user database or of a store is inside `begin()`.
        """
        self.users.refuse_transaction_block()
        self.revocation.refuse_transaction_block()
        return await self.revocation.live_records(user)

    async def abandon(self, user: UP, user_id: ID, before: StoredUser, *, is_stored: bool) -> None:
        """Roll back the session after a failed change, if the session contains any part of the change.

        Otherwise the next commit, by the revocation or by the caller, would store that part.
        """
        with suppress(Exception):  # A failed transaction or a lost connection commits nothing either.
            if is_stored or self.users.is_pending(user) or await self.users.stored(user_id) != before:
                await self.users.roll_back(user)


async def found_or(otherwise: T, finding: Coroutine[Any, Any, T], user_id: object) -> T:
    """Return what `finding` returns, or `otherwise` if it raises an error."""
    try:
        return await finding
    except Exception as error:  # noqa: BLE001 (no error may keep tokens valid)
        _logger.error(  # noqa: TRY400 (a traceback shows parameters)
            "Revoking the tokens of user %s, because the stored state of the user cannot be read: %s",
            user_id,
            describe(error),
        )
        return otherwise
