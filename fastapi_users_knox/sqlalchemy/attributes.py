"""What SQL reads of a mapped class's attributes, and where the object's own word counts beside the row's."""

import dis
import inspect
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from fastapi_users_knox.records import UP

__all__ = ["active_by_row_and_object", "in_sql", "why_not_in_sql"]


def in_sql(mapper: Mapper[Any], name: str) -> ColumnElement[Any] | None:
    """Return an attribute as SQL reads it, or `None` if it is worked out in Python, or is not there.

    A hybrid attribute counts only if its SQL means what its Python says, as far as `_has_expression` can see.
    """
    hybrid = _hybrid(mapper, name)
    if hybrid is not None and not _has_expression(hybrid):
        return None
    with suppress(Exception):  # A hybrid attribute may run any code, which for SQL may be wrong in any way.
        expression = getattr(mapper.class_, name).expression
        return expression if isinstance(expression, ColumnElement) else None
    return None


def why_not_in_sql(mapper: Mapper[Any], name: str) -> str:
    """Return why `in_sql` has nothing for the attribute, and the fix where there is one."""
    reason = f"{name} is no column or SQL expression"
    if _hybrid(mapper, name) is None:
        return reason
    return (
        f"{reason} that can be relied on: give the hybrid attribute an .expression without Python's "
        "and, or, not, if, in and is, such as and_(cls.enabled, cls.paid)"
    )


def active_by_row_and_object(row_value: object, user: UP | None) -> bool:
    """Return whether a user is active.

    The row just read decides, as the object may be an older one of the session. But where the object works it out in
    Python, which may look at more than the SQL does, both have to say so.

    Args:
        row_value: `is_active` of the row just read.
        user: The object that the row was loaded as; `None` if only the row was read.
    """
    return bool(row_value) and (user is None or _is_loaded(type(user)) or bool(user.is_active))


def _hybrid(mapper: Mapper[Any], name: str) -> hybrid_property[Any] | None:
    while name in mapper.synonyms:
        name = mapper.synonyms[name].name
    found = mapper.all_orm_descriptors.get(name)
    return found if isinstance(found, hybrid_property) else None


def _has_expression(hybrid: hybrid_property[Any]) -> bool:
    """Return whether the SQL of a hybrid attribute means what its Python says.

    Python's own decisions, made on the class, are no error but wrong: to Python a column is always true, so that
    `self.enabled and self.paid` is `self.paid` alone, and `self.left is not None` always holds.
    """
    stated = hybrid.custom_comparator or hybrid.expr or hybrid.fget
    return isinstance(stated, FunctionType) and not _decides_in_python(stated)


def _decides_in_python(function: FunctionType) -> bool:
    """Return whether a function has a Python `and`, `or`, `not`, `if`, `in` or `is`."""
    return any(
        "_IF_" in step.opname or step.opname in {"UNARY_NOT", "CONTAINS_OP", "IS_OP"}
        for step in dis.get_instructions(function)
    )


@cache
def _is_loaded(user_class: type[object]) -> bool:
    """Return whether an object has `is_active` as it was loaded, and does not work it out."""
    return isinstance(inspect.getattr_static(user_class, "is_active"), InstrumentedAttribute)
