"""The SQL expressions for the attributes of a mapped class, and the check whether a user is active."""

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

__all__ = ["active_by_row_and_object", "computes_activity", "in_sql", "why_not_in_sql"]


def in_sql(mapper: Mapper[Any], name: str) -> ColumnElement[Any] | None:
    """Return the SQL expression of an attribute; `None` if the attribute is computed in Python, or does not exist.

    The expression of a hybrid attribute is returned only if `_has_expression` finds that the expression means the same
    as the attribute's Python code.
    """
    hybrid = _hybrid(mapper, name)
    if hybrid is not None and not _has_expression(hybrid):
        return None
    with suppress(
        Exception
    ):  # A hybrid attribute may run any code, and raise any error when it is called on the class.
        expression = getattr(mapper.class_, name).expression
        return expression if isinstance(expression, ColumnElement) else None
    return None


def why_not_in_sql(mapper: Mapper[Any], name: str) -> str:
    """Return why `in_sql` returns `None` for an attribute, and how to fix it if possible."""
    reason = f"{name} is not a column or SQL expression"
    if _hybrid(mapper, name) is None:
        return reason
    return (
        f"{reason}, because the SQL of this hybrid attribute may mean something other than its Python code: give it an "
        ".expression without Python's and, or, not, if, in and is, such as and_(cls.enabled, cls.paid)"
    )


def active_by_row_and_object(row_value: object, user: UP | None) -> bool:
    """Return whether a user is active.

    The row just read decides, because the session may have loaded the object earlier. But if the class computes
    `is_active` in Python, both the row and the object must be active, because the Python code may check more than the
    SQL expression does.

    Args:
        row_value: `is_active` of the row just read.
        user: The object that was loaded from the row; `None` if only the row was read.
    """
    return bool(row_value) and (user is None or _is_loaded(type(user)) or bool(user.is_active))


def _hybrid(mapper: Mapper[Any], name: str) -> hybrid_property[Any] | None:
    """Return the hybrid attribute that a name or a synonym stands for; `None` if the attribute is not hybrid."""
    while name in mapper.synonyms:
        name = mapper.synonyms[name].name
    found = mapper.all_orm_descriptors.get(name)
    return found if isinstance(found, hybrid_property) else None


def _has_expression(hybrid: hybrid_property[Any]) -> bool:
    """Return whether the SQL expression of a hybrid attribute means the same as its Python code.

    If the Python code is called on the class, Python's own operators raise no error, but return a wrong result. Python
    takes every column for true, so `self.enabled and self.paid` becomes `self.paid` alone, and `self.left is not None`
    is always true.
    """
    stated = hybrid.custom_comparator or hybrid.expr or hybrid.fget
    return isinstance(stated, FunctionType) and not _decides_in_python(stated)


def _decides_in_python(function: FunctionType) -> bool:
    """Return whether a function contains a Python `and`, `or`, `not`, `if`, `in` or `is`."""
    return any(
        "_IF_" in step.opname or step.opname in {"UNARY_NOT", "CONTAINS_OP", "IS_OP"}
        for step in dis.get_instructions(function)
    )


def computes_activity(users: Mapper[Any]) -> bool:
    """Return whether a class or a subclass of it computes `is_active` in Python, so that only an object shows it."""
    return not all(_has_stored_activity(mapper.class_) for mapper in users.self_and_descendants)


@cache
def _is_loaded(user_class: type[object]) -> bool:
    """Return `_has_stored_activity`, which each read needs."""
    return _has_stored_activity(user_class)


def _has_stored_activity(user_class: type[Any]) -> bool:
    """Return whether `is_active` of an object is loaded from its row, and not computed in Python."""
    return isinstance(inspect.getattr_static(user_class, "is_active"), InstrumentedAttribute)
