"""The settings: an invalid value is refused with a message that names the field and shows no secret."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from fastapi_users_knox import KnoxSettings, tokens

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
CENTURY = timedelta(days=36525)
ONE, TWO = "the first key, of 32 bytes and more", "the second key, of 32 bytes and more"
DURATIONS = ["token_ttl", "auto_refresh_max_ttl", "min_refresh_interval"]
MOMENTS = ["accept_unkeyed_until", "not_before"]
TEXT = tokens.generate("00", prefix="")


class App(BaseModel):
    """An application's settings, which contain `KnoxSettings`, as with pydantic-settings."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    debug: bool = False
    knox: KnoxSettings = KnoxSettings()


def test_the_defaults_are_knox_s() -> None:
    """The defaults are those of django-rest-knox, and every additional feature is off except `end_presented`."""
    settings = KnoxSettings()

    assert settings.model_dump() == {
        "token_ttl": timedelta(hours=10),
        "token_limit_per_user": None,
        "limit_policy": "reject",
        "auto_refresh": False,
        "auto_refresh_max_ttl": None,
        "min_refresh_interval": timedelta(seconds=60),
        "token_prefix": "knox_",
        "audience": "",
        "digest_keys": (),
        "accept_unkeyed_until": None,
        "not_before": None,
        "end_presented": True,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_ttl", None),
        ("token_ttl", MILLISECOND),
        ("token_ttl", CENTURY),
        ("token_limit_per_user", None),
        ("token_limit_per_user", 1),
        ("limit_policy", "evict_oldest"),
        ("limit_policy", "evict_least_recently_used"),
        ("auto_refresh", True),
        ("auto_refresh_max_ttl", timedelta(hours=10)),
        ("min_refresh_interval", timedelta(0)),
        ("min_refresh_interval", CENTURY),
        ("token_prefix", ""),
        ("token_prefix", "_Az09_Az09_Az09_Az09"),
        ("audience", "!" * 64),
        ("audience", "https://api.example.org"),
        ("digest_keys", (SecretStr("k" * 32),)),
        ("digest_keys", (SecretStr("\N{LATIN SMALL LETTER E WITH ACUTE}" * 16), SecretStr(TWO))),
        ("not_before", NOW),
    ],
)
def test_a_valid_value_is_accepted(field: str, value: Any) -> None:
    """Each field accepts its valid values, including the bounds."""
    settings = KnoxSettings(**{field: value})

    assert getattr(settings, field) == value


TTL_RULE = "more than 0, at most 100 years"
INTERVAL_RULE = "0 or more, at most 100 years"
TOGETHER = ""  # a rule about several fields belongs to the model, and its message names them


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"token_ttl": timedelta(0)}, "token_ttl", TTL_RULE),
        ({"token_ttl": -HOUR}, "token_ttl", TTL_RULE),
        ({"token_ttl": CENTURY + MILLISECOND}, "token_ttl", TTL_RULE),
        ({"token_ttl": timedelta(microseconds=1500)}, "token_ttl", "whole number of milliseconds"),
        ({"token_ttl": "soon"}, "token_ttl", "valid timedelta"),
        ({"token_limit_per_user": 0}, "token_limit_per_user", "greater than or equal to 1"),
        ({"token_limit_per_user": -1}, "token_limit_per_user", "greater than or equal to 1"),
        ({"token_limit_per_user": 1.5}, "token_limit_per_user", "integer"),
        ({"limit_policy": "evict"}, "limit_policy", "'reject', 'evict_oldest' or 'evict_least_recently_used'"),
        ({"auto_refresh": True, "token_ttl": None}, TOGETHER, "auto_refresh needs a token_ttl"),
        ({"auto_refresh_max_ttl": timedelta(0)}, "auto_refresh_max_ttl", TTL_RULE),
        ({"auto_refresh_max_ttl": HOUR}, TOGETHER, "auto_refresh_max_ttl must be at least token_ttl"),
        (
            {"auto_refresh_max_ttl": HOUR, "token_ttl": None},
            TOGETHER,
            "auto_refresh_max_ttl must be at least token_ttl",
        ),
        ({"min_refresh_interval": -MILLISECOND}, "min_refresh_interval", INTERVAL_RULE),
        ({"min_refresh_interval": CENTURY + MILLISECOND}, "min_refresh_interval", INTERVAL_RULE),
        ({"min_refresh_interval": timedelta(microseconds=1)}, "min_refresh_interval", "whole number of milliseconds"),
        (
            {"auto_refresh": True, "token_ttl": HOUR, "min_refresh_interval": HOUR},
            TOGETHER,
            "min_refresh_interval must be less than token_ttl",
        ),
        ({"token_prefix": "x" * 21}, "token_prefix", "pattern"),
        ({"token_prefix": "knox-"}, "token_prefix", "pattern"),
        ({"token_prefix": "knox\n"}, "token_prefix", "pattern"),
        ({"token_prefix": "\N{FULLWIDTH LATIN SMALL LETTER K}"}, "token_prefix", "pattern"),
        ({"audience": "a b"}, "audience", "pattern"),
        ({"audience": "\N{LATIN SMALL LETTER E WITH ACUTE}"}, "audience", "pattern"),
        ({"audience": "a\n"}, "audience", "pattern"),
        ({"audience": "a" * 65}, "audience", "pattern"),
        ({"digest_keys": ["k" * 31]}, "digest_keys.0", "at least 32 bytes"),
        ({"digest_keys": [ONE, ""]}, "digest_keys.1", "at least 32 bytes"),
        ({"digest_keys": ONE}, "digest_keys", "valid tuple"),
        ({"accept_unkeyed_until": NOW}, TOGETHER, "accept_unkeyed_until needs digest_keys"),
        (
            {"accept_unkeyed_until": NOW.replace(tzinfo=None), "digest_keys": [ONE]},
            "accept_unkeyed_until",
            "timezone",
        ),
        ({"not_before": NOW.replace(tzinfo=None)}, "not_before", "timezone"),
        ({"token_tll": HOUR}, "token_tll", "Extra inputs are not permitted"),
    ],
)
def test_an_invalid_value_is_refused(fields: dict[str, Any], field: str, rule: str) -> None:
    """An invalid value is refused with a message that names the field and the rule."""
    with pytest.raises(ValidationError) as refused:
        KnoxSettings(**fields)

    [error] = refused.value.errors()
    assert ".".join(map(str, error["loc"])) == field
    assert rule in error["msg"]


@pytest.mark.parametrize(
    ("field", "fix"),
    [
        *((field, "timedelta(seconds=3600)") for field in DURATIONS),
        *((field, "datetime(2030, 1, 1, tzinfo=UTC)") for field in MOMENTS),
    ],
)
@pytest.mark.parametrize(
    "number", [3600, 3600.5, 0, -5, True, Decimal(3600), "3600", "3600.5", "-5", "1e3", "20300101"]
)
@pytest.mark.parametrize("path", ["alone", "nested", "json"])
def test_a_number_is_no_duration_and_no_moment(field: str, fix: str, number: Any, path: str) -> None:
    """A plain number, which pydantic would read as seconds, is refused with a message that shows the fix."""
    fields = {field: number, "digest_keys": [ONE]}

    with pytest.raises(ValidationError) as refused:
        validate_by(path, fields)

    [error] = refused.value.errors()
    assert error["loc"][-1] == field
    assert fix in error["msg"]


@pytest.mark.parametrize("path", ["alone", "nested", "json"])
def test_iso_8601_text_is_accepted(path: str) -> None:
    """Durations and times may be ISO 8601 text, as in environment variables and files."""
    ages = dict(zip(DURATIONS, ["PT1H", "P30D", "00:02:00"], strict=True))
    moments = dict(zip(MOMENTS, ["2030-01-01T12:00:00Z", "2030-01-01 13:00:00+01:00"], strict=True))

    settings = validate_by(path, {**ages, **moments, "digest_keys": [ONE]})

    assert [getattr(settings, field) for field in DURATIONS] == [HOUR, timedelta(days=30), timedelta(minutes=2)]
    assert [getattr(settings, field) for field in MOMENTS] == [NOW, NOW]


def validate_by(path: str, fields: dict[str, Any]) -> KnoxSettings:
    """Validate the settings on their own, as a part of an application's, or from JSON."""
    if path == "json":
        return App.model_validate_json(json.dumps({"knox": fields}, default=float)).knox
    return KnoxSettings.model_validate(fields) if path == "alone" else App.model_validate({"knox": fields}).knox


def test_every_duration_and_moment_is_tested() -> None:
    """The lists above contain every field with a duration or a time."""
    annotated = {name: str(field.annotation) for name, field in KnoxSettings.model_fields.items()}

    assert [name for name, annotation in annotated.items() if "timedelta" in annotation] == DURATIONS
    assert [name for name, annotation in annotated.items() if "AwareDatetime" in annotation] == MOMENTS


@pytest.mark.parametrize(
    "fields",
    [
        {"digest_keys": ["QQQ"]},
        {"digest_keys": "Q" * 32},
        {"digest_keys": [b"\xffQQQ"]},
        {"digest_keys": ["Q" * 32], "auto_refresh": True, "token_ttl": None},
        {"digest_keys": ["Q" * 32], "digest_key": "Q" * 32},
    ],
    ids=["short", "no list", "bytes", "together", "misspelt"],
)
@pytest.mark.parametrize("path", ["alone", "nested"])
def test_no_message_holds_a_key(path: str, fields: dict[str, Any]) -> None:
    """No error message contains a key, because failures to start are logged."""
    with pytest.raises(ValidationError) as refused:
        KnoxSettings.model_validate(fields) if path == "alone" else App.model_validate({"knox": fields})

    assert "Q" not in str(refused.value)


def test_neither_the_repr_nor_a_dump_holds_a_key() -> None:
    """The repr and the dumps of settings contain no key."""
    settings = App(knox=KnoxSettings(digest_keys=(SecretStr(ONE),)))

    assert ONE not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_settings_are_frozen() -> None:
    """Settings are frozen, because several strategies may share them."""
    settings = KnoxSettings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.token_ttl = None


def test_settings_nest_in_an_application_s() -> None:
    """Settings can be a part of an application's settings that are read as text."""
    environment = {
        "token_ttl": "PT8H",
        "token_limit_per_user": "5",
        "auto_refresh": "true",
        "min_refresh_interval": "PT2M",
        "digest_keys": [ONE, TWO],
        "accept_unkeyed_until": "2030-01-01T12:00:00Z",
    }

    settings = App.model_validate_json(json.dumps({"knox": environment})).knox

    assert settings == KnoxSettings(
        token_ttl=timedelta(hours=8),
        token_limit_per_user=5,
        auto_refresh=True,
        min_refresh_interval=timedelta(minutes=2),
        digest_keys=(SecretStr(ONE), SecretStr(TWO)),
        accept_unkeyed_until=NOW,
    )


# the digests


def test_without_keys_the_digest_is_sha_256() -> None:
    """Without keys the only digest is plain SHA-256."""
    assert KnoxSettings().digests(TEXT, NOW) == (tokens.digest(TEXT),)


def test_the_first_key_signs_and_all_verify() -> None:
    """With keys there is one digest for each, in their order, and no plain one."""
    settings = KnoxSettings(digest_keys=(SecretStr(ONE), SecretStr(TWO)))

    digests = settings.digests(TEXT, NOW)

    assert digests == (tokens.digest(TEXT, key=ONE.encode()), tokens.digest(TEXT, key=TWO.encode()))


def test_a_key_is_its_utf_8() -> None:
    """A key outside of ASCII is encoded as UTF-8."""
    key = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 16

    assert KnoxSettings(digest_keys=(SecretStr(key),)).digests(TEXT, NOW) == (tokens.digest(TEXT, key=key.encode()),)


@pytest.mark.parametrize(("now", "is_accepted"), [(NOW - MILLISECOND, True), (NOW, False), (NOW + MILLISECOND, False)])
def test_unkeyed_digests_are_accepted_until_then(now: datetime, *, is_accepted: bool) -> None:
    """Until `accept_unkeyed_until` the plain digest is looked up last, and it is never stored."""
    settings = KnoxSettings(digest_keys=(SecretStr(ONE),), accept_unkeyed_until=NOW)

    digests = settings.digests(TEXT, now)

    assert digests[0] == tokens.digest(TEXT, key=ONE.encode())
    assert digests[1:] == ((tokens.digest(TEXT),) if is_accepted else ())
