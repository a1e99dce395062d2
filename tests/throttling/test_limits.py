"""What `LoginThrottle` admits and refuses, on each kind of storage."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from fastapi_users_knox.errors import KnownBy
from fastapi_users_knox.throttling import LoginThrottle
from fastapi_users_knox.throttling.counters import normalized
from tests.throttling.places import ADA, ELSEWHERE, EVE, HOME, Place, attempt, nothing, refusal

pytestmark = pytest.mark.anyio

REFUSED_FOR_A_MINUTE = "account_and_address: 5 per 1 minute"
REFUSED_FOR_AN_HOUR = "account_and_address: 20 per 1 hour"


async def its_address() -> KnownBy:
    """Say that the client is known by its address."""
    return "address"


def a_token() -> Callable[[], Awaitable[KnownBy]]:
    """Return a function that says that the client is known by one token, the same at each call."""
    record_id = uuid.uuid4()

    async def its_token() -> KnownBy:
        return record_id

    return its_token


async def test_five_attempts_a_minute(place: Place) -> None:
    """By default the sixth attempt for an account from one address is refused, but no other account or address."""
    throttle = place.throttle()

    outcomes = [await attempt(throttle) for _ in range(6)]

    assert outcomes == ["admitted"] * 5 + [REFUSED_FOR_A_MINUTE]
    assert await attempt(throttle, EVE) == "admitted"
    assert await attempt(throttle, ADA, ELSEWHERE) == "admitted"


async def test_twenty_attempts_an_hour(place: Place) -> None:
    """By default, twenty attempts are admitted within an hour, however many are refused meanwhile."""
    throttle = place.throttle()
    outcomes: Counter[str] = Counter()

    for _ in range(5):
        outcomes.update([await attempt(throttle) for _ in range(8)])
        await place.let_pass(61)

    assert outcomes["admitted"] == 20
    assert await attempt(throttle) == REFUSED_FOR_AN_HOUR
    await place.let_pass(3600)
    assert await attempt(throttle) == "admitted"


async def test_a_hundred_attempts_an_hour_from_an_address(place: Place) -> None:
    """By default an address has a hundred attempts an hour, for whichever accounts."""
    throttle = place.throttle()

    outcomes = [await attempt(throttle, f"{number}@example.org") for number in range(101)]

    assert outcomes == ["admitted"] * 100 + ["address: 100 per 1 hour"]
    assert await attempt(throttle, "100@example.org", ELSEWHERE) == "admitted"


async def test_a_hundred_attempts_an_hour_for_an_account(place: Place) -> None:
    """By default an account has a hundred attempts an hour, from whichever addresses."""
    throttle = place.throttle()

    outcomes = [await attempt(throttle, ADA, f"203.0.113.{number}") for number in range(101)]

    assert outcomes == ["admitted"] * 100 + ["account: 100 per 1 hour"]
    assert await attempt(throttle, EVE, "203.0.113.100") == "admitted"


async def test_a_known_address_neither_has_nor_uses_the_accounts_limit(place: Place) -> None:
    """From a known address, attempts do not count for the account, and are admitted when its limit is reached."""
    throttle = place.throttle(per_account=("2/hour",))

    before = [await attempt(throttle, known_by=its_address) for _ in range(3)]
    others = [await attempt(throttle, ADA, f"203.0.113.{number}") for number in range(3)]

    assert before == ["admitted"] * 3
    assert others == ["admitted", "admitted", "account: 2 per 1 hour"]
    assert await attempt(throttle, known_by=its_address) == "admitted"


@pytest.mark.parametrize("known_by", [its_address, a_token()])
async def test_a_known_client_has_the_other_limits(place: Place, known_by: Callable[[], Awaitable[KnownBy]]) -> None:
    """Somebody who sits at the user's address, or has a token of the user, cannot guess without a limit."""
    throttle = place.throttle()

    outcomes = [await attempt(throttle, known_by=known_by) for _ in range(6)]

    assert outcomes[-1] == REFUSED_FOR_A_MINUTE


async def test_a_token_has_the_accounts_limits_from_all_addresses_together(place: Place) -> None:
    """By default a hundred attempts an hour are admitted with a token, from whichever addresses."""
    throttle, stolen = place.throttle(), a_token()

    outcomes = [await attempt(throttle, ADA, f"203.0.113.{number}", known_by=stolen) for number in range(101)]

    assert outcomes == ["admitted"] * 100 + ["account: 100 per 1 hour"]
    await place.let_pass(3600)
    assert await attempt(throttle, known_by=stolen) == "admitted"


async def test_a_token_counts_for_nobody_else(place: Place) -> None:
    """What one token has used up, another token, an unknown client and another purpose still have."""
    throttle, stolen = place.throttle(per_account_and_address=(), per_account=("1/hour",)), a_token()
    await attempt(throttle, known_by=stolen)

    assert await attempt(throttle, known_by=stolen) == "account: 1 per 1 hour"
    assert await attempt(throttle, known_by=stolen, purpose="mail") == "admitted"
    assert await attempt(throttle, known_by=a_token()) == "admitted"
    assert await attempt(throttle) == "admitted"


async def test_nobody_else_counts_for_a_token(place: Place) -> None:
    """When the limit of the account is used up, an attempt with a token is admitted."""
    throttle = place.throttle(per_account_and_address=(), per_account=("1/hour",))
    await attempt(throttle)

    assert await attempt(throttle) == "account: 1 per 1 hour"
    assert await attempt(throttle, known_by=a_token()) == "admitted"


async def test_a_success_does_not_reset_the_counter_of_a_token(place: Place) -> None:
    """After a success the attempts with a token still count. Otherwise its user would give a thief new ones."""
    throttle, stolen = place.throttle(per_account=("1/hour",)), a_token()
    await attempt(throttle, known_by=stolen)

    await throttle.forget(ADA, HOME, purpose="login")

    assert await attempt(throttle, known_by=stolen) == "account: 1 per 1 hour"


async def test_what_a_narrow_counter_refuses_does_not_count_further(place: Place) -> None:
    """One address cannot use up an account's limit, nor can one account use up the limit of an office's address."""
    throttle = place.throttle(
        per_account_and_address=("1/minute",), per_address=("2/minute",), per_account=("2/minute",)
    )

    for _ in range(5):
        await attempt(throttle)

    assert await attempt(throttle, EVE, HOME) == "admitted"
    assert await attempt(throttle, ADA, ELSEWHERE) == "admitted"


async def test_a_refused_address_creates_no_keys(place: Place) -> None:
    """An address without attempts left is refused before a key is created for the account that it names."""
    throttle = place.throttle(per_address=("1/hour",))
    await attempt(throttle)
    before = set(await place.keys())

    outcomes = {await attempt(throttle, f"invented-{number}@example.org") for number in range(3)}

    assert outcomes == {"address: 1 per 1 hour"}
    assert set(await place.keys()) == before


async def test_a_success_resets_only_the_narrow_counter(place: Place) -> None:
    """After a success the account has all attempts from this address again, but the other counters stay."""
    throttle = place.throttle(
        per_account_and_address=("1/minute", "1/hour"), per_address=("3/hour",), per_account=("2/hour",)
    )

    await attempt(throttle)
    await throttle.forget(ADA, HOME, purpose="login")
    again = await attempt(throttle)
    await throttle.forget(ADA, HOME, purpose="login")

    assert again == "admitted"
    assert await attempt(throttle) == "account: 2 per 1 hour"
    assert await attempt(throttle, EVE) == "address: 3 per 1 hour"


async def test_a_success_elsewhere_resets_nothing(place: Place) -> None:
    """A success of another account, from another address or of another purpose resets nothing."""
    throttle = place.throttle(per_account_and_address=("1/hour",))
    await attempt(throttle)

    await throttle.forget(EVE, HOME, purpose="login")
    await throttle.forget(ADA, ELSEWHERE, purpose="login")
    await throttle.forget(ADA, HOME, purpose="mail")
    await throttle.forget(ADA, None, purpose="login")

    assert await attempt(throttle) == "account_and_address: 1 per 1 hour"


async def test_purposes_are_counted_apart(place: Place) -> None:
    """Failed logins do not keep a user from asking for a mail."""
    throttle = place.throttle(per_account_and_address=("1/hour",))
    await attempt(throttle)

    assert await attempt(throttle, purpose="mail") == "admitted"


async def test_without_an_address_only_the_account_counts(place: Place) -> None:
    """Outside of a request only the limit of the account applies."""
    throttle = place.throttle(per_account_and_address=("1/hour",), per_address=("1/hour",), per_account=("2/hour",))

    outcomes = [await attempt(throttle, ADA, None) for _ in range(3)]

    assert outcomes == ["admitted", "admitted", "account: 2 per 1 hour"]


@pytest.mark.parametrize(("one", "other"), [("2001:db8::1", "2001:db8::ffff:2"), ("192.0.2.1", "::ffff:192.0.2.1")])
async def test_a_client_has_one_address(place: Place, one: str, other: str) -> None:
    """Another address of the same /64, or another spelling of the same IPv4 address, gives no new attempts."""
    throttle = place.throttle(per_account_and_address=("1/hour",), per_address=("2/hour",))
    await attempt(throttle, ADA, one)

    assert await attempt(throttle, ADA, other) == "account_and_address: 1 per 1 hour"
    assert await attempt(throttle, EVE, other) == "admitted"
    assert await attempt(throttle, EVE, one) == "address: 2 per 1 hour"


@pytest.mark.parametrize(
    "spelling",
    ["Ada@Example.org", " ada@example.org ", "ADA@EXAMPLE.ORG", "\N{LATIN SMALL LETTER A WITH ACUTE}da@example.org"],
)
async def test_an_account_has_one_spelling(place: Place, spelling: str) -> None:
    """Another spelling that a database may regard as the same address gives no new attempts."""
    throttle = place.throttle(per_account_and_address=("1/hour",))
    await attempt(throttle)

    assert await attempt(throttle, spelling) == "account_and_address: 1 per 1 hour"


@pytest.mark.parametrize(
    ("options", "counters"),
    [
        ({"per_account_and_address": ()}, 2),
        ({"per_address": ()}, 3),
        ({"per_account": ()}, 3),
        ({"per_account_and_address": (), "per_address": (), "per_account": ()}, 0),
    ],
)
async def test_a_counter_can_be_switched_off(place: Place, options: dict[str, tuple[str, ...]], counters: int) -> None:
    """A counter without limits counts nothing."""
    throttle = place.throttle(**options)

    await attempt(throttle)

    assert len(await place.keys()) == counters


async def test_no_key_reveals_anybody(place: Place) -> None:
    """No key in the storage contains an e-mail address, the address of a client or the id of a token's record."""
    throttle, known_by = place.throttle(), a_token()

    await attempt(throttle)
    await attempt(throttle, known_by=known_by)

    keys = " ".join(await place.keys()).lower()
    record_id = str(await known_by())
    assert len(keys.split()) == 5
    assert not any(part in keys for part in (ADA, "ada@", "example", HOME, record_id, record_id.replace("-", "")))


async def test_after_the_wait_an_attempt_is_admitted(place: Place) -> None:
    """Whoever waits for the reported number of whole seconds is admitted, and was refused before."""
    throttle = place.throttle(per_account_and_address=("1/minute",))
    await attempt(throttle)
    await place.let_pass(50.6)

    refused = await refusal(throttle)
    await place.let_pass(refused.retry_after)

    assert 1 <= refused.retry_after <= 10
    assert await attempt(throttle) == "admitted"


async def test_the_wait_is_that_of_the_longest_exhausted_window(place: Place) -> None:
    """If the minute and the hour are both used up, the wait is the rest of the hour."""
    throttle = place.throttle(per_account_and_address=("1/hour", "1/minute"))

    refused = await refusal(throttle)

    assert refused.limit == "1 per 1 minute"
    assert 3000 < refused.retry_after <= 3601


async def test_the_wait_is_not_that_of_a_window_with_attempts_left(place: Place) -> None:
    """If only the minute is used up, the wait is the rest of the minute."""
    throttle = place.throttle(per_account_and_address=("1/minute", "3/hour"))

    refused = await refusal(throttle)

    assert 1 <= refused.retry_after <= 61


@pytest.mark.parametrize("number", [50, 1000])
async def test_simultaneous_attempts_do_not_exceed_the_limit(place: Place, number: int) -> None:
    """Of many simultaneous attempts exactly as many are admitted as the limit says, even without enough connections."""
    throttle = place.throttle()

    outcomes = await asyncio.gather(*(attempt(throttle) for _ in range(number)))

    assert Counter(outcomes) == {"admitted": 5, REFUSED_FOR_A_MINUTE: number - 5}


def test_a_text_that_is_no_address_is_not_normalised() -> None:
    """A text that is too long for an address is counted as it is, because to normalise it may take very long."""
    accents = "a" + "\u0301\u0316" * 200

    assert normalized(accents) is accents
    assert normalized(accents[:300]) == "a"


@pytest.mark.parametrize("spelling", ["v\u200bictim@example.org", "v\u00adictim@example.org", "VICTIM@example.org "])
def test_invisible_characters_make_no_other_account(spelling: str) -> None:
    """Characters that nobody sees do not distinguish accounts, because a database may ignore them."""
    assert normalized(spelling) == "victim@example.org"


async def test_a_window_is_not_extended_by_refused_attempts(place: Place) -> None:
    """A window ends a minute after its first attempt, even if somebody goes on trying."""
    throttle = place.throttle(per_account_and_address=("1/minute",))
    await attempt(throttle)
    await place.let_pass(40)
    await attempt(throttle)
    await place.let_pass(20)

    assert await attempt(throttle) == "admitted"


async def test_memory_is_the_default() -> None:
    """Without a storage a throttle counts in memory."""
    throttle = LoginThrottle(per_account_and_address="1/hour")

    await throttle.admit(ADA, HOME, purpose="login", known_by=nothing)

    assert await attempt(throttle) == "account_and_address: 1 per 1 hour"
