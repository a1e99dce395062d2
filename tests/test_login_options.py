"""The values of login options: an invalid value is refused with a message that names the option, not the value."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from fastapi_users_knox import KnoxSettings, LoginOptions

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("token_ttl", 3600, "a number has no unit"),
        ("token_ttl", "3600", "a number has no unit"),
        ("token_ttl", timedelta(0), "must be more than 0"),
        ("token_ttl", timedelta(days=36526), "at most 100 years"),
        ("token_ttl", timedelta(microseconds=1), "a whole number of milliseconds"),
        ("token_limit_per_user", 0, "greater than or equal to 1"),
        ("limit_policy", "evict", "Input should be 'reject', 'evict_oldest' or"),
        ("token_prefix", "no-dash", "should match pattern"),
        ("token_prefix", "x" * 21, "should match pattern"),
        ("name", 5, "should be a valid string"),
        ("data", None, "should be a valid dictionary"),
        ("data", ["pro"], "should be a valid dictionary"),
        ("data", {"at": timedelta(0)}, "data must be a JSON object"),
        ("data", {"rate": float("nan")}, "data must be a JSON object"),
        ("data", {"text": "é" * 2048}, "data must have at most 4096 bytes as JSON"),
        ("browser_session", None, "should be a valid boolean"),
        ("audience", "api", "Extra inputs are not permitted"),
        ("token_tll", HOUR, "Extra inputs are not permitted"),
    ],
)
def test_an_invalid_option_is_refused(option: str, value: Any, message: str) -> None:
    """The error names the option and the rule, and does not show the value."""
    with pytest.raises(ValidationError) as refused:
        LoginOptions(**{option: value})

    [error] = refused.value.errors(include_url=False)
    assert (error["loc"], message in error["msg"]) == ((option,), True)
    assert "input_value" not in str(refused.value)


def test_data_is_copied() -> None:
    """Options keep the data as it was, in the form in which a store returns it."""
    data = {"plans": ("free", "pro")}
    options = LoginOptions(data=data)

    data.clear()

    assert options.data == {"plans": ["free", "pro"]}


def test_options_apply_to_a_copy_of_the_settings() -> None:
    """Only the options that were given replace settings, even if they equal the defaults."""
    settings = KnoxSettings(token_ttl=HOUR, token_limit_per_user=5, token_prefix="acme_", audience="web")

    applied = LoginOptions(token_limit_per_user=None, name="Kiosk").applied_to(settings)

    assert applied == KnoxSettings(token_ttl=HOUR, token_prefix="acme_", audience="web")
    assert settings.token_limit_per_user == 5
