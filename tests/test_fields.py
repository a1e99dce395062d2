"""The scopes and the data of a record: what is accepted, and that a store returns what it was given."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox.records.fields import (
    checked_data,
    checked_scopes,
    data_of,
    scopes_of,
    text_of_data,
    text_of_scopes,
)

SCOPE = st.text(sorted({*map(chr, range(0x21, 0x7F))} - {'"', "\\"}), min_size=1, max_size=30)  # RFC 6749 §3.3
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.sets(SCOPE, min_size=1, max_size=20))
def test_scopes_are_kept(scopes: set[str]) -> None:
    """Every set of valid names is accepted, and is the same after it was written as text and read."""
    checked = checked_scopes(scopes)

    assert checked == frozenset(scopes)
    assert scopes_of(text_of_scopes(checked)) == checked


@given(st.text(max_size=10))
def test_a_name_of_a_scope(name: str) -> None:
    """A name is accepted if it has only the characters of RFC 6749 §3.3, and at least one."""
    allowed = set(string.ascii_letters + string.digits + string.punctuation) - {'"', "\\"}
    is_valid = bool(name) and set(name) <= allowed

    try:
        checked_scopes([name])
    except ValueError:
        assert not is_valid
    else:
        assert is_valid


@pytest.mark.parametrize("scopes", ["reports:read", b"reports:read", [1], [b"a"], [None], ["a", ["b"]]])
def test_scopes_are_several_texts(scopes: Any) -> None:
    """One text, whose letters would become the scopes, is refused, and so is anything that is not a text."""
    with pytest.raises(TypeError, match="scopes must be a collection of strings"):
        checked_scopes(scopes)


def test_a_token_needs_a_scope() -> None:
    """An empty collection is refused, because `None` must be the only way to issue a session."""
    with pytest.raises(ValueError, match="scopes must have names"):
        checked_scopes([])


def test_scopes_have_a_greatest_length() -> None:
    """All names together, with the spaces between them, have at most 1,024 bytes."""
    assert checked_scopes(["a" * 1000, "b" * 23]) is not None
    with pytest.raises(ValueError, match="at most 1024 bytes"):
        checked_scopes(["a" * 1000, "b" * 24])


def test_no_scopes_are_a_session() -> None:
    """`None` stays `None`, and differs from the empty set."""
    assert (checked_scopes(None), text_of_scopes(None), scopes_of(None)) == (None, None, None)
    assert scopes_of(text_of_scopes(frozenset())) == frozenset()


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_data_is_kept(data: dict[str, Any]) -> None:
    """Every small JSON object is accepted, and is the same after it was written as text and read."""
    if "\\ud" in json.dumps(data):  # A lone surrogate has no encoding.
        data = {}

    checked = checked_data(data)

    assert checked == data == data_of(text_of_data(checked))


@pytest.mark.parametrize(
    "data",
    [
        {"at": object()},
        {"n": float("nan")},
        {"n": float("inf")},
        {"s": "\ud800"},
        {"\ud800": 1},
        {("a", "b"): 1},
        {"b": b"bytes"},
        {"set": {1}},
        [("a", 1)],
        "text",
        7,
    ],
)
def test_data_is_a_json_object(data: Any) -> None:
    """Anything that is not a JSON object is refused, without quoting it."""
    with pytest.raises(ValueError, match=r"^data must be") as refused:
        checked_data(data)

    assert refused.value.__cause__ is None


def test_data_has_a_greatest_length() -> None:
    """The data has at most 4,096 bytes as JSON in UTF-8, in which a letter may have several bytes."""
    overhead = len('{"k":""}')

    assert checked_data({"k": "ä" * ((4096 - overhead) // 2)})
    with pytest.raises(ValueError, match="at most 4096 bytes"):
        checked_data({"k": "ä" * ((4096 - overhead) // 2 + 1)})


@pytest.mark.parametrize("bottom", [[], {}, 1, "text"])
def test_data_has_few_levels(bottom: Any) -> None:
    """Objects and arrays are nested on at most 16 levels, so that no read exceeds Python's recursion limit."""
    data = bottom
    for level in range(15):
        data = [data] if level % 2 else {"k": data}

    assert checked_data({"k": data}) == {"k": data}
    with pytest.raises(ValueError, match="at most 16 levels"):
        checked_data({"k": [[data]]})


def test_data_that_contains_itself_is_refused() -> None:
    """A cycle is refused like any other deep data."""
    data: dict[str, Any] = {}
    data["self"] = data

    with pytest.raises(ValueError, match="at most 16 levels"):
        checked_data(data)


def test_data_is_copied_as_it_is_read() -> None:
    """A tuple becomes a list and a number as key a text, as after a read, and the caller's object is not shared."""
    inner = [1]
    data: Any = {1: (2, 3), "inner": inner}
    checked = checked_data(data)
    inner.append(2)

    assert checked == {"1": [2, 3], "inner": [1]}
    assert checked_data(None) == checked_data({}) == {}
