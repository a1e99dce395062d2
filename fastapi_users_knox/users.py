"""Load the user of a token whose store cannot, and read what is stored of a user that is being changed."""

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from fastapi_users.db import BaseUserDatabase
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.store import Credentials

if TYPE_CHECKING:
    from fastapi_users_knox.sqlalchemy.user_rows import UserRows

__all__ = [
    "StoredUser",
    "commit",
    "committed_user",
    "derives_activity",
    "flush",
    "id_of",
    "is_pending",
    "load_user",
    "noting_commits",
    "refuse_transaction_block",
    "roll_back",
    "sharing_session",
    "stored_credentials",
    "stored_user",
]

StoredUser = Mapping[str, object]


async def load_user(user_manager: BaseUserManager[UP, ID], user_id: ID) -> tuple[UP, bool] | None:
    """Return a user and whether it is active, by the row just read where that can be seen; `None` if there is none.

    Args:
        user_manager: Where it or its user database has a way of its own to load a user, that way is gone.
        user_id: As the store has it; `user_manager.parse_id` makes the id of it.
    """
    with suppress(InvalidID, UserNotExists):
        parsed = user_manager.parse_id(user_id)
        select = _prebuilt_select(user_manager)
        if select is not None:
            return await select(parsed)
        # Some managers return `None` instead of raising, which FastAPI-Users' own strategies let pass.
        user: UP | None = await user_manager.get(parsed)
        return None if user is None else (user, user.is_active)
    return None


async def stored_credentials(
    user_db: BaseUserDatabase[UP, ID], user_id: ID, *, latest: bool = False
) -> Credentials | None:
    """Return what is stored of a user's credentials, past any cache; `None` if there is no such user.

    Args:
        user_db: The application's adapter.
        user_id: The user's id.
        latest: Whether an SQLAlchemy session is committed before, as its transaction may see an older state.
    """
    rows = _rows_of(user_db)
    if rows is not None:
        return await rows.credentials(user_id, latest=latest)
    user = await user_db.get(user_id)
    return None if user is None else Credentials(hashed_password=user.hashed_password, is_active=user.is_active)


async def stored_user(user_db: BaseUserDatabase[UP, ID], user_id: ID) -> StoredUser:
    """Return what the database has of a user, by field, whatever objects say; it is empty if there is no such user.

    What an SQLAlchemy session has flushed and not committed is among it.
    """
    rows = _rows_of(user_db)
    if rows is not None:
        return await rows.stored(user_id)
    user = await user_db.get(user_id)
    return {} if user is None else {**vars(user), "is_active": user.is_active}


async def committed_user(user_db: BaseUserDatabase[UP, ID], user: UP, user_id: ID) -> StoredUser | None:
    """Return what is committed of a user, by field; `None` if the database may hide the user.

    It can be called after the user database has raised, in the middle of a transaction that has failed.
    """
    rows = _rows_of(user_db)
    return await (stored_user(user_db, user_id) if rows is None else rows.committed(user, user_id))


def id_of(user_db: BaseUserDatabase[UP, ID], user: UP) -> ID:
    """Return a user's id, and load nothing for it where SQLAlchemy has expired the object."""
    if _rows_of(user_db) is not None:
        from fastapi_users_knox.sqlalchemy.sessions import load_identity  # noqa: PLC0415 (as below)

        load_identity(user)
    user_id: ID = user.id
    return user_id


def derives_activity(user_db: BaseUserDatabase[UP, ID]) -> bool:
    """Return whether `is_active` is worked out from other columns, so that a change of any of them may change it."""
    rows = _rows_of(user_db)
    return rows is not None and rows.derives_activity


def noting_commits(user_db: BaseUserDatabase[UP, ID]) -> AbstractContextManager[Collection[object]]:
    """Return a context that collects each commit of the user database's SQLAlchemy session."""
    rows = _rows_of(user_db)
    return nullcontext(()) if rows is None else rows.noting_commits()


def is_pending(user_db: BaseUserDatabase[UP, ID], user: UP) -> bool:
    """Return whether the user database's SQLAlchemy session has a change of this user that it has not sent yet."""
    rows = _rows_of(user_db)
    return rows is not None and rows.is_pending(user)


async def flush(user_db: BaseUserDatabase[UP, ID]) -> None:
    """Send what the user database's SQLAlchemy session has not sent yet, so that it can be read."""
    rows = _rows_of(user_db)
    if rows is not None:
        await rows.flush()


async def commit(user_db: BaseUserDatabase[UP, ID]) -> None:
    """Commit what the user database's SQLAlchemy session has flushed, for adapters that leave this to the request."""
    rows = _rows_of(user_db)
    if rows is not None:
        await rows.commit()


async def roll_back(user_db: BaseUserDatabase[UP, ID], user: UP) -> None:
    """Roll back what the user database's SQLAlchemy session has not committed."""
    rows = _rows_of(user_db)
    if rows is not None:
        await rows.roll_back(user)


def refuse_transaction_block(user_db: BaseUserDatabase[UP, ID]) -> None:
    """Refuse a user database that cannot commit, before it is asked to.

    Raises:
        KnoxError: Its session is inside of `begin()`, so a change could be stored and the revocation could not.
    """
    rows = _rows_of(user_db)
    if rows is not None:
        rows.refuse_transaction_block()


def sharing_session(user_db: BaseUserDatabase[UP, ID]) -> AbstractContextManager[None]:
    """Return a context in which another task uses the session of this task, where sessions are scoped by the task."""
    rows = _rows_of(user_db)
    return nullcontext() if rows is None else rows.sharing_session()


def _rows_of(user_db: BaseUserDatabase[UP, ID]) -> "UserRows[UP, ID] | None":
    if "fastapi_users_db_sqlalchemy" not in sys.modules:
        return None
    from fastapi_users_knox.sqlalchemy.user_rows import UserRows  # noqa: PLC0415 (as below)
    from fastapi_users_knox.sqlalchemy.users import is_sqlalchemy  # noqa: PLC0415

    return UserRows(user_db) if is_sqlalchemy(user_db) else None


def _prebuilt_select(
    user_manager: BaseUserManager[UP, ID],
) -> Callable[[ID], Awaitable[tuple[UP, bool] | None]] | None:
    if "fastapi_users_db_sqlalchemy" not in sys.modules:
        return None  # Whose user database would it be?
    # SQLAlchemy is an extra, so it is asked for only here, where the adapter shows that it is installed.
    from fastapi_users_knox.sqlalchemy.users import plain_user_db, select_user  # noqa: PLC0415

    user_db = plain_user_db(user_manager)
    return None if user_db is None else partial(select_user, user_db)
