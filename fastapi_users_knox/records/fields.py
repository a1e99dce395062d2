"""The fields of a record that the application chooses: its scopes and its data, checked, and as the text in a store."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "checked_data",
    "checked_scopes",
    "data_of",
    "needed_scopes",
    "scopes_of",
    "text_of_data",
    "text_of_scopes",
]

_SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 §3.3
_MAX_SCOPES = 1024  # bytes
_MAX_DATA = 4096  # bytes
_MAX_LEVELS = 16


def checked_scopes(scopes: Iterable[str] | None) -> frozenset[str] | None:
    """Return the scopes as a set; `None` stays `None`.

    Raises:
        ValueError: There is no scope, or a name is not valid, or all names together are longer than 1 KB.
        TypeError: The scopes are one text, or something other than texts.
    """
    if scopes is None:
        return None
    names = [] if isinstance(scopes, str | bytes) else [*scopes]
    if isinstance(scopes, str | bytes) or not all(isinstance(name, str) for name in names):
        raise TypeError("scopes must be several texts, such as {'reports:read'}")
    if not names or not all(map(_SCOPE.fullmatch, names)):
        raise ValueError("scopes must have names of printable ASCII characters without spaces, quotes and backslashes")
    checked = frozenset(names)
    if len(text_of_scopes(checked) or "") > _MAX_SCOPES:
        raise ValueError(f"all scopes together, separated by spaces, must have at most {_MAX_SCOPES} bytes")
    return checked


def needed_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return the scopes that a request needs, which may be none.

    Raises:
        ValueError: A name is not valid. It would be part of a response header.
        TypeError: The scopes are one text, or something other than texts.
    """
    names = scopes if isinstance(scopes, str | bytes) else [*scopes]
    return (names and checked_scopes(names)) or frozenset()


def text_of_scopes(scopes: frozenset[str] | None) -> str | None:
    """Return the scopes as one text, separated by spaces and sorted (RFC 6749 §3.3)."""
    return None if scopes is None else " ".join(sorted(scopes))


def scopes_of(text: str | None) -> frozenset[str] | None:
    """Return the scopes in a stored text. An empty text is a record that may do nothing; `None` is a session."""
    return None if text is None else frozenset(text.split())


def checked_data(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the data as it will be read from a store; `None` becomes an empty dictionary.

    Raises:
        ValueError: The data is not a JSON object (RFC 8259), is longer than 4 KB as JSON in UTF-8, or has objects and
            arrays inside one another on more than 16 levels.
    """
    if data is not None and not isinstance(data, Mapping):
        raise ValueError(f"data must be a dictionary, not {type(data).__name__}")
    _check_levels(data, _MAX_LEVELS)
    try:
        text = text_of_data(dict(data or {})) or "{}"
        size = len(text.encode())
    except (TypeError, ValueError):  # The error would quote the data.
        raise ValueError("data must be a JSON object: texts, numbers, true, false, null, objects and arrays") from None
    if size > _MAX_DATA:
        raise ValueError(f"data must have at most {_MAX_DATA} bytes as JSON, not {size}")
    return data_of(text)


def text_of_data(data: Mapping[str, Any]) -> str | None:
    """Return the data as JSON; `None` if it is empty."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")) if data else None


def data_of(text: str | None) -> dict[str, Any]:
    """Return the data in a stored text."""
    data: dict[str, Any] = {} if text is None else json.loads(text)
    return data


def _check_levels(value: object, levels: int) -> None:
    """Refuse data that is nested so deeply that a read might exceed Python's recursion limit."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if levels == 0 and inner:
        raise ValueError(f"data must have at most {_MAX_LEVELS} levels of objects and arrays")
    for each in inner:
        _check_levels(each, levels - 1)
