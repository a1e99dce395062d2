"""Finding the user class: the mapped class, in any registry, that the `user_id` of a token class refers to."""

from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, Select, Update, bindparam, inspect, select
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.mapper import _all_registries  # There is no public way from a table to its mappers.

from fastapi_users_knox.errors import UserClassError
from fastapi_users_knox.sqlalchemy.attributes import computes_activity, in_sql, why_not_in_sql
from fastapi_users_knox.sqlalchemy.keys import check_key, referred_columns, same_keys

__all__ = ["UserClass", "find_user_class", "mapper_of", "topmost_on"]

_NEEDED = ("id", "hashed_password", "is_active")
_FIX = "pass users= with the mapped class of the users, or users=None if the users are not in the tokens' database"


@dataclass(frozen=True, kw_only=True, eq=False)
class UserClass:
    """A mapped class that `user_id` refers to, and that may be the user class.

    Attributes:
        mapper: The mapper of the class.
        referred: The column that `user_id` refers to, in one of the tables of the class.
    """

    mapper: Mapper[Any]
    referred: Column[Any]

    @cached_property
    def columns(self) -> dict[str, ColumnElement[Any]]:
        """The columns, or expressions of hybrid attributes, for `id`, `hashed_password` and `is_active`."""
        found = {name: in_sql(self.mapper, name) for name in _NEEDED}
        return {name: expression for name, expression in found.items() if expression is not None}

    @cached_property
    def computes_activity(self) -> bool:
        """Whether only an object of the class shows whether the user is active."""
        return computes_activity(self.mapper)

    @cached_property
    def missing(self) -> list[str]:
        """The reasons why this class cannot be the user class."""
        missing = [why_not_in_sql(self.mapper, name) for name in _NEEDED if name not in self.columns]
        if "id" in self.columns and not self._has_referred_id():
            missing.append(f'id is not the column "{self.referred}" that user_id refers to')
        if not self._is_one_row():
            missing.append(f'several of its rows may belong to one "{self.referred}"')
        return missing

    @cached_property
    def lock(self) -> Select[Any]:
        """The SELECT that locks a user's rows in every table of the class, and returns the user's credentials.

        A change of the password, a deactivation and a deletion wait for this lock, whichever table they change first.
        """
        columns = self.columns
        found = select(columns["hashed_password"], columns["is_active"]).select_from(self.mapper.class_)
        # Without `of`, PostgreSQL refuses the outer joins of a mapper that loads its subclasses in the same SELECT.
        return found.where(columns["id"] == bindparam("user_id")).with_for_update(key_share=True, of=self.mapper.tables)

    def reads_like(self, other: "UserClass") -> bool:
        """Return whether the other class reads the same rows and columns, so that either can be used.

        The parameters are compared too, because in single-table inheritance only the parameters differ.
        """
        own, others = self.lock.compile(), other.lock.compile()
        return (str(own), own.params) == (str(others), others.params)

    def check_bind(self, session: Session, tokens: Mapper[Any], clause: Update) -> None:
        """Refuse a session that uses different engines for users and tokens, because no statement could read both.

        Raises:
            UserClassError: The engines differ.
        """
        if session.get_bind(tokens, clause=clause) is not session.get_bind(self.mapper, clause=clause):
            raise UserClassError(
                f"the session has {self.mapper.class_.__name__} and {tokens.class_.__name__} on different engines: "
                "use one engine for both, or pass users=None to SQLAlchemyTokenStore if this is intended"
            )

    def _is_one_row(self) -> bool:
        """Return whether the row that `user_id` refers to determines the mapper's whole primary key by itself."""
        referred = set[Column[Any]]().union(*(same_keys(column, self.mapper) for column in self.referred.table.columns))
        return referred.issuperset(self.mapper.primary_key)

    def _has_referred_id(self) -> bool:
        """Return whether the `id` of the class is the column that `user_id` refers to."""
        own = {column for column in self.columns["id"].base_columns if isinstance(column, Column)}
        keys = set[Column[Any]]().union(*(same_keys(column, self.mapper) for column in own))
        return not keys.isdisjoint(same_keys(self.referred, self.mapper))


def find_user_class(tokens: Mapper[Any], users: Mapper[Any] | EllipsisType) -> UserClass:
    """Find the user class, or check the class that the application passed.

    If several classes of an inheritance hierarchy match, the topmost is used, because each user is an instance of it.

    Args:
        tokens: The mapper of the token class.
        users: The mapper of the class that the application passed; `...` if the application passed no class.

    Raises:
        UserClassError: No class matches, several different classes match, or the type of `user_id` is wrong.
    """
    try:
        check_key(tokens)
        seen = [
            UserClass(mapper=mapper, referred=key)
            for key in referred_columns(tokens)
            for mapper in _mappers_on(key.table)
        ]
    except NoReferencedTableError as error:
        raise _refusal(tokens, str(error)) from error
    if not seen:
        raise _refusal(tokens, "its user_id has no foreign key to a table of a mapped class")
    if isinstance(users, EllipsisType):
        return _choose(tokens, seen)
    named = [user for user in seen if user.mapper is users]
    if not named:
        raise _refusal(tokens, f"its user_id does not refer to {users.class_.__name__}")
    return _choose(tokens, named)


def mapper_of(argument: str, mapped: type[Any]) -> Mapper[Any]:
    """Return the mapper of the class that was passed as this argument.

    Raises:
        TypeError: The argument is not a mapped class.
    """
    mapper = inspect(mapped, raiseerr=False)
    if isinstance(mapper, Mapper):
        return mapper
    raise TypeError(f"{argument} must be a mapped class: got {mapped!r}")


def topmost_on(table: FromClause) -> set[Mapper[Any]]:
    """Return the mappers of the classes that use the table, except those that inherit from another mapper on it."""
    return _topmost(_mappers_on(table))


def _choose(tokens: Mapper[Any], seen: list[UserClass]) -> UserClass:
    """Return the topmost class that can be used."""
    fitting = {user.mapper: user for user in seen if not user.missing}
    if not fitting:
        reasons = [f"{user.mapper.class_.__name__}: {', '.join(user.missing)}" for user in seen]
        raise _refusal(tokens, f"no class that its user_id refers to can be used ({'; '.join(sorted(reasons))})")
    topmost = sorted(_topmost(set(fitting)), key=lambda mapper: (mapper.registry is not tokens.registry, str(mapper)))
    chosen = fitting[topmost[0]]
    if not all(chosen.reads_like(fitting[mapper]) for mapper in topmost):
        names = ", ".join(mapper.class_.__name__ for mapper in topmost)
        raise _refusal(tokens, f"several matching classes read different rows or columns: {names}")
    return chosen


def _mappers_on(table: FromClause) -> set[Mapper[Any]]:
    """Return the mappers of all classes that use the table."""
    return {mapper for registry in _all_registries() for mapper in registry.mappers if table in mapper.tables}


def _topmost(mappers: set[Mapper[Any]]) -> set[Mapper[Any]]:
    """Return the mappers that do not inherit from another mapper in the set."""
    return {it for it in mappers if it.inherits is None or mappers.isdisjoint(it.inherits.iterate_to_root())}


def _refusal(tokens: Mapper[Any], why: str) -> UserClassError:
    """Build the error, with the reason and the fix."""
    return UserClassError(f"the users of {tokens.class_.__name__} cannot be found: {why}; {_FIX}")
