"""The user that a command names by an id or an e-mail address."""

from dataclasses import dataclass
from uuid import UUID

from fastapi_users_knox.cli.report import ExitCode, Problem
from fastapi_users_knox.cli.target import Target

__all__ = ["NamedUser", "find_user", "is_known"]


@dataclass(frozen=True, kw_only=True)
class NamedUser:
    """What the strategy needs to know of a user.

    Attributes:
        id: The user's id.
    """

    id: object


async def find_user(target: Target, text: str) -> NamedUser:
    """Return the user with an e-mail address, or with an id that need not exist any more.

    Raises:
        Problem: There is no user with this address, or the text is neither an address nor an id.
    """
    ids = await _ids_by_email(target, text) if "@" in text else None
    if ids is None:
        return NamedUser(id=_parse_id(target, text))
    if not ids:
        raise Problem(f"there is no user {text}", exit_code=ExitCode.FINDINGS)
    if len(ids) > 1:
        raise Problem(f"several users have the address {text}: pass the id")
    return NamedUser(id=ids[0])


async def is_known(target: Target, user: NamedUser) -> bool:
    """Return whether a user exists, as far as it can be found out."""
    if target.context.user_db is not None:
        return await target.context.user_db.get(user.id) is not None
    return target.operations is None or await target.operations.has_user(user.id) is not False


async def _ids_by_email(target: Target, email: str) -> list[object] | None:
    """Return the ids of the users with an address; `None` if the users cannot be read."""
    user_db = target.context.user_db
    if user_db is not None:
        user = await user_db.get_by_email(email)
        return [] if user is None else [user.id]
    found = None if target.operations is None else await target.operations.find_users(email)
    return None if found is None else list(found)


def _parse_id(target: Target, text: str) -> object:
    """Return the id that a text is; a UUID if the store is of another package."""
    parse = UUID if target.operations is None else target.operations.parse_id
    try:
        return parse(text)
    except ValueError:
        hint = ", and users can be found by e-mail address only with --app or --database" if "@" in text else ""
        raise Problem(f"{text} is not the id of a user{hint}") from None
