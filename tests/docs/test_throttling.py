"""The applications of the page on the throttling of logins work as the page describes."""

from pathlib import Path

import pytest

from tests.docs.folder import LOGIN, apply, calling, changed_by, load, log_in, register
from tests.redis_servers import RedisServer

WRONG = {**LOGIN, "password": "a wrong one"}


async def test_a_sixth_attempt_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change shown, the sixth attempt within a minute gets the response that the page describes."""
    monkeypatch.delenv("THROTTLE_STORAGE", raising=False)
    changed_by("throttle.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)

        failed = [(await client.post("/auth/login", data=WRONG)).status_code for _ in range(5)]
        answer = await client.post("/auth/login", data=LOGIN)

    await load("db").engine.dispose()
    assert failed == [400] * 5
    assert (answer.status_code, answer.json()) == (429, {"detail": "LOGIN_THROTTLED"})
    assert 1 <= int(answer.headers["Retry-After"]) <= 61


async def test_one_time_codes_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a throttle, the route for one-time codes accepts the right code, and refuses guesses after the fifth."""
    monkeypatch.delenv("THROTTLE_STORAGE", raising=False)
    changed_by("throttle.diff", folder, monkeypatch)
    apply("one_time_code.diff", folder)
    async with calling(load("app").app) as client:
        await register(client)
        headers = await log_in(client)

        codes = ["755224", *(f"{number:06}" for number in range(6))]
        answers = [await client.post("/one-time-code", json={"code": code}, headers=headers) for code in codes]

    await load("db").engine.dispose()
    assert [answer.status_code for answer in answers] == [204] + [400] * 5 + [429]


async def test_a_storage_of_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, redis_7_server: RedisServer
) -> None:
    """With a storage object, the attempts are counted in Redis, under the application's prefix."""
    redis_7_server.ask("FLUSHALL")
    monkeypatch.setenv("REDIS_URL", redis_7_server.url())
    changed_by("throttle_storage.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)

        statuses = [(await client.post("/auth/login", data=WRONG)).status_code for _ in range(6)]

    await load("db").engine.dispose()
    await load("throttle_storage").storage.bridge.get_connection().aclose()
    assert statuses == [400] * 5 + [429]
    assert len(redis_7_server.ask("KEYS", "shop:*")) == len(redis_7_server.ask("KEYS", "*")) > 0
