"""The command `purge`."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from fastapi_users_knox import KnoxSettings
from fastapi_users_knox.cli.purging import parse_duration, run_steps
from fastapi_users_knox.settings.settings import utc_now
from tests.cli import application
from tests.cli.place import Place
from tests.models import KnoxToken

DAY = timedelta(days=1)
CAPPED = KnoxSettings(token_ttl=DAY, auto_refresh=True, auto_refresh_max_ttl=2 * DAY)


async def rows_left(place: Place) -> int:
    """Return the number of rows in the table."""
    async with place.open_app() as app:
        return await app.session.scalar(select(func.count()).select_from(KnoxToken)) or 0


async def expire(place: Place, *, rows: int, ago: timedelta = DAY) -> None:
    """Store tokens that expired some time ago, and one that is live."""
    for _ in range(rows):
        await place.log_in(await place.create_user(), ago=ago, token_ttl=timedelta(seconds=1))
    await place.log_in(await place.create_user())


async def test_expired_tokens_are_deleted(sql: Place) -> None:
    """`purge` deletes all expired tokens, in batches, and says how many and how fast."""
    await expire(sql, rows=5)

    document = await sql.ask("purge", "--batch-size", 2)

    assert (document["deleted"], document["left"]) == (5, 0)
    assert document["rows_per_second"] >= 0
    assert await rows_left(sql) == 1


async def test_the_number_and_the_speed_are_printed(sqlite: Place) -> None:
    """Without `--json`, `purge` prints one sentence."""
    await expire(sqlite, rows=1)

    shown = (await sqlite.run("purge")).stdout

    assert re.fullmatch(r"1 expired tokens are deleted, in \d+\.\d s \(\d+ rows per second\)\.\n", shown)


async def test_a_dry_run_deletes_nothing(place: Place) -> None:
    """With `--dry-run`, `purge` counts the tokens that it would delete."""
    await place.log_in(await place.create_user())

    document = await place.ask("purge", "--dry-run")

    assert document == {"expired": 0, "deleted": 0}


async def test_a_dry_run_counts(sql: Place) -> None:
    """The number of a dry run is that of the tokens that have expired."""
    await expire(sql, rows=2)

    shown = (await sql.run("purge", "--dry-run")).stdout

    assert shown == "2 expired tokens would be deleted.\n"
    assert await rows_left(sql) == 3


async def test_tokens_that_expired_lately_may_stay(sql: Place) -> None:
    """With `--older-than`, tokens stay that expired less than this ago."""
    await expire(sql, rows=1, ago=3 * DAY)
    await expire(sql, rows=1, ago=DAY)

    document = await sql.ask("purge", "--older-than", "2d")

    assert document["deleted"] == 1
    assert await rows_left(sql) == 3


async def test_tokens_past_the_cap_are_deleted_too(
    place: Place, sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--app`, the cap of its settings counts: over Redis too, which has not deleted these tokens by itself."""
    jane = await place.create_user()
    old, new = [await place.log_in(jane, ago=ago, token_ttl=None) for ago in (3 * DAY, DAY)]
    other = await place.log_in(jane, ago=3 * DAY, token_ttl=None, settings=KnoxSettings(audience="web"))
    monkeypatch.setenv(application.DATABASE, place.options[1])
    monkeypatch.setenv(application.REDIS, place.options[1])
    monkeypatch.setattr(application, "SETTINGS", CAPPED)
    app = ["--app", f"tests.cli.application:{APPS[place.options[0]]}"]

    counted = await sqlite.run_with(app, "purge", "--dry-run")
    await sqlite.run_with(app, "purge")

    assert counted.stdout == "1 expired tokens would be deleted.\n"
    assert [await place.accepts(token) for token in (old, new)] == [False, True]
    assert await place.accepts(other, KnoxSettings(audience="web"))


APPS = {"--database": "open_strategy", "--redis": "open_capped_on_redis"}


async def test_locked_rows_are_left(postgresql: Place) -> None:
    """`purge` skips rows that another transaction has locked, deletes the others, and says how many are left."""
    await expire(postgresql, rows=3)
    async with postgresql.open_app() as app:
        expires_at = KnoxToken.__table__.c.expires_at
        first = select(expires_at).where(expires_at < utc_now()).limit(1).with_for_update()
        await app.session.execute(first)

        result = await postgresql.run("purge")

    assert result.stdout.startswith("2 expired tokens are deleted")
    assert "1 are left, because other transactions have locked them: purge again later." in result.stdout


async def test_other_stores_are_purged_at_once(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of another package deletes the tokens by its verb; it cannot count them."""
    monkeypatch.setenv(application.DATABASE, sqlite.options[1])
    await expire(sqlite, rows=2)
    app = ["--app", "tests.cli.application:open_foreign"]

    counted = await sqlite.run_with(app, "purge", "--dry-run", code=2)
    deleted = await sqlite.run_with(app, "purge")

    assert counted.stderr == "Error: this command does not support ForeignStore.\n"
    assert deleted.stdout.startswith("2 expired tokens are deleted")


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90s", timedelta(seconds=90)), ("5m", timedelta(minutes=5)), ("12h", DAY / 2), ("7d", 7 * DAY), ("2w", 14 * DAY)],
)
def test_durations_have_a_unit(text: str, duration: timedelta) -> None:
    """A duration is a number and a unit."""
    assert parse_duration(text) == duration


async def test_a_wrong_duration_is_refused(sqlite: Place) -> None:
    """A duration without a unit is a wrong usage."""
    result = await sqlite.run("purge", "--older-than", "7", code=2)

    assert result.stderr.startswith("Error: 7 is not a duration, which is a number with s, m, h, d or w")


async def test_an_interrupted_step_is_noted() -> None:
    """A cancellation waits until the running step is done and noted, and no other step begins."""
    noted: list[int] = []
    reached = asyncio.Event()

    async def steps() -> AsyncIterator[int]:
        yield 1
        reached.set()
        await asyncio.sleep(0)
        yield 2
        yield 3

    task = asyncio.create_task(run_steps(steps(), noted.append))
    await reached.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert noted == [1, 2]
