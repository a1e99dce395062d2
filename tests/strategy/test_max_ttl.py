"""A lifetime that is longer than `max_ttl` is cut, wherever it comes from."""

from datetime import timedelta

import pytest

from fastapi_users_knox import KnoxSettings, KnoxStrategy, LoginOptions
from tests.models import store_on
from tests.strategies import DAY, HOUR, Knox

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("ttl", "max_ttl", "lifetime"),
    [(DAY, HOUR, HOUR), (HOUR, DAY, HOUR), (None, HOUR, HOUR), (HOUR, None, HOUR), (None, None, None)],
)
@pytest.mark.parametrize("place", ["argument", "settings", "options"])
async def test_a_lifetime_is_cut(
    knox: Knox, *, ttl: timedelta | None, max_ttl: timedelta | None, lifetime: timedelta | None, place: str
) -> None:
    """The lifetime of the argument, of the settings and of the login's options is at most `max_ttl`."""
    strategy = KnoxStrategy(
        store_on(knox.session),
        KnoxSettings(token_ttl=ttl if place == "settings" else 2 * DAY),
        request=None,
        login_options=(lambda _user, _request: LoginOptions(token_ttl=ttl)) if place == "options" else None,
        clock=knox.clock,
    )

    if place == "argument":
        token = await strategy.issue(knox.user, token_ttl=ttl, max_ttl=max_ttl)
    else:
        token = await strategy.issue(knox.user, max_ttl=max_ttl)

    assert token.record.expires_at == (None if lifetime is None else knox.clock.now + lifetime)


async def test_a_wrong_longest_lifetime_is_refused(knox: Knox) -> None:
    """A `max_ttl` that would not be valid as a lifetime raises an error."""
    with pytest.raises(ValueError, match="must be more than 0"):
        await knox.strategy().issue(knox.user, max_ttl=timedelta(0))
