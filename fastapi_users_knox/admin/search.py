"""The search for sessions: by user, IP address and device; never by digest."""

from collections.abc import Iterable, Iterator
from types import EllipsisType
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, cast, or_, select
from sqlalchemy.orm import Mapper

from fastapi_users_knox.sqlalchemy.user_class import UserClass, find_user_class, mapper_of

__all__ = ["select_emails", "session_matches", "user_class_of"]


def user_class_of(tokens: Mapper[Any], users: type[Any] | EllipsisType | None) -> UserClass | None:
    """Return the class of the users; `None` if the users are not in this database.

    Raises:
        UserClassError: The class cannot be found, or does not match the tokens.
    """
    if users is None:
        return None
    return find_user_class(tokens, users if isinstance(users, EllipsisType) else mapper_of("users", users))


def session_matches(tokens: Mapper[Any], users: UserClass | None, term: str) -> ColumnElement[bool]:
    """Return the condition that matches the sessions that a search finds.

    A session is found by its own id or its user's, by the ID of its device, by a part of the user's e-mail address or
    of the device's name, and by the beginning of its IP address.
    """
    text = term.replace("\0", "").strip()  # PostgreSQL refuses this character in any text.
    columns = tokens.columns
    conditions = [
        # As text, because users may have any type of id.
        cast(columns["user_id"], String).in_(_spellings(text)),
        columns["device_id"] == text,
        columns["name"].icontains(text, autoescape=True),
        columns["ip_address"].istartswith(text, autoescape=True),
        cast(columns["id"], String).in_(_spellings(text)),
    ]
    if users is not None:
        found = select(users.columns["id"]).where(_email(users).icontains(text, autoescape=True))
        conditions.append(columns["user_id"].in_(found))
    return or_(*conditions)


def select_emails(users: UserClass, ids: Iterable[object]) -> Select[Any]:
    """Return the SELECT of the e-mail addresses of users, with their ids."""
    id_ = users.columns["id"]
    return select(id_, _email(users)).where(id_.in_(list(ids)))


def _email(users: UserClass) -> ColumnElement[str]:
    email: ColumnElement[str] = users.mapper.class_.email
    return email


def _spellings(text: str) -> Iterator[str]:
    """Yield a text, and if it is a UUID, both forms in which databases without a type for it store a UUID."""
    yield text
    try:
        id_ = UUID(text)
    except ValueError:
        return
    yield from (str(id_), id_.hex)
