"""The users in any user database of FastAPI-Users, and more precise answers with the adapter for SQLAlchemy."""

import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Generic, Protocol, TypeVar, cast

from fastapi_users.db import BaseUserDatabase
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.records import Credentials, UserLike, UserSource

__all__ = ["StoredUser", "Users", "load_user", "source_of", "users_of"]

_UP_contra = TypeVar("_UP_contra", bound=UserLike, contravariant=True)

StoredUser = Mapping[str, Any]
"""The stored fields of a user, with their names as keys; empty if there is no such user."""


class Users(Protocol[_UP_contra, ID]):
    """The stored state of users, from which objects in a session may differ, and the session that stores this state."""

    @property
    def derives_activity(self) -> bool:
        """Whether `is_active` is computed from other columns, whose changes may then change `is_active` too."""
        ...

    async def credentials(self, id: ID, *, latest: bool = False) -> Credentials | None:
        """Return the credentials of a user as stored, never cached; `None` if there is no such user.

        Args:
            id: The user's id.
            latest: Whether to commit an SQLAlchemy session first, because its transaction may see an older state.
        """
        ...

    async def stored(self, id: ID) -> StoredUser:
        """Return the stored fields of a user, including what an SQLAlchemy session has flushed but not committed."""
        ...

    async def committed(self, user: _UP_contra, id: ID) -> StoredUser | None:
        """Return the committed fields of a user; `None` if the database may hide the user.

        The method may be called after the user database has raised an error, when the session's transaction has failed.
        """
        ...

    def id_of(self, user: _UP_contra) -> ID:
        """Return the id of a user without sending a SELECT, even if SQLAlchemy has expired the object."""
        ...

    def noting_commits(self) -> AbstractContextManager[Collection[object]]:
        """Return a context manager that collects the commits of an SQLAlchemy session."""
        ...

    def is_pending(self, user: _UP_contra) -> bool:
        """Return whether an SQLAlchemy session has an unflushed change or deletion of this user."""
        ...

    async def flush(self) -> None:
        """Flush an SQLAlchemy session, so that its changes can be read."""
        ...

    async def commit(self) -> None:
        """Commit an SQLAlchemy session, because some adapters leave the commit to the end of the request."""
        ...

    async def roll_back(self, user: _UP_contra) -> None:
        """Roll back the uncommitted changes of an SQLAlchemy session."""
        ...

    def refuse_transaction_block(self) -> None:
        """Raise `KnoxError` if an SQLAlchemy session is inside `begin()`, where it cannot be committed."""
        ...

    def sharing_session(self) -> AbstractContextManager[None]:
        """Return a context manager in which other tasks share this task's session, even if it is scoped by task."""
        ...


class _AnyUsers(Generic[UP, ID]):
    """The users in a user database that stores each change at once."""

    derives_activity = False

    def __init__(self, user_db: BaseUserDatabase[UP, ID]) -> None:
        """Take the user database."""
        self._user_db = user_db

    async def credentials(self, id: ID, *, latest: bool = False) -> Credentials | None:  # noqa: ARG002 (no sessions)
        """Return the credentials of the user that the user database loads."""
        user = await self._user_db.get(id)
        return None if user is None else Credentials(hashed_password=user.hashed_password, is_active=user.is_active)

    async def stored(self, id: ID) -> StoredUser:
        """Return the fields of the user that the user database loads."""
        user = await self._user_db.get(id)
        return {} if user is None else {**vars(user), "is_active": user.is_active}

    async def committed(self, user: UP, id: ID) -> StoredUser | None:  # noqa: ARG002 (part of the protocol)
        """Return the stored fields, because each change is stored at once."""
        return await self.stored(id)

    def id_of(self, user: UP) -> ID:
        """Return the id of the object."""
        return cast("ID", user.id)

    def noting_commits(self) -> AbstractContextManager[Collection[object]]:
        """Collect nothing, because there is no session."""
        return nullcontext(())

    def is_pending(self, user: UP) -> bool:  # noqa: ARG002 (part of the protocol)
        """Return `False`, because each change is stored at once."""
        return False

    async def flush(self) -> None:
        """Do nothing."""

    async def commit(self) -> None:
        """Do nothing."""

    async def roll_back(self, user: UP) -> None:
        """Do nothing."""

    def refuse_transaction_block(self) -> None:
        """Do nothing."""

    def sharing_session(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


def users_of(user_db: BaseUserDatabase[UP, ID]) -> Users[UP, ID]:
    """Return the users in a user database."""
    if _may_be_sqlalchemy():
        from fastapi_users_knox.users.sqlalchemy import rows_of  # noqa: PLC0415 (SQLAlchemy is an extra)

        rows = rows_of(user_db)
        if rows is not None:
            return rows
    return _AnyUsers(user_db)


def source_of(user_manager: BaseUserManager[UP, ID]) -> UserSource:
    """Return the source from which a user manager loads its users."""
    if not _may_be_sqlalchemy():
        return UserSource()
    from fastapi_users_knox.users.sqlalchemy import plain_source  # noqa: PLC0415 (SQLAlchemy is an extra)

    return plain_source(user_manager)


async def load_user(
    user_manager: BaseUserManager[UP, ID], user_id: ID, *, source: UserSource | None = None
) -> tuple[UP, bool] | None:
    """Return a user and whether the user is active; `None` if there is no such user.

    Args:
        user_manager: The user manager. Its `parse_id` converts `user_id` to the type of the users' ids.
        user_id: The id as the token store returns it.
        source: The source from which the manager loads its users, if the caller knows it already. If the source is a
            plain SELECT, `is_active` is read from the row, because the session may already have an older object of the
            user.
    """
    source = source_of(user_manager) if source is None else source
    with suppress(InvalidID, UserNotExists):
        parsed = user_manager.parse_id(user_id)
        if source.user_class is not None:
            from fastapi_users_knox.sqlalchemy.reading import select_user  # noqa: PLC0415 (SQLAlchemy is an extra)

            return await select_user(source, parsed)
        # Some managers return `None` instead of raising, which FastAPI-Users' own strategies accept.
        user: UP | None = await user_manager.get(parsed)
        return None if user is None else (user, user.is_active)
    return None


def _may_be_sqlalchemy() -> bool:
    """Return whether FastAPI-Users' adapter for SQLAlchemy has been imported, so that a user database may use it."""
    return "fastapi_users_db_sqlalchemy" in sys.modules
