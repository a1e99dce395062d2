"""A story over HTTP of a user with two devices and an administrator, and the secrets that no response may hold."""

import base64
import uuid
from collections.abc import Mapping

import pytest
from httpx import AsyncClient, Response

from fastapi_users_knox import KnoxEvent, KnoxSettings, TokenRevoked
from tests.routers.device import Device, on_each_server
from tests.site import Database, credentials
from tests.strategies import HOUR, NOW, Clock

pytestmark = [on_each_server, pytest.mark.unmeasured]

SETTINGS = KnoxSettings(token_limit_per_user=3, auto_refresh=True)


class Story:
    """Several devices that send requests, with all tokens that were issued and all other responses."""

    def __init__(self, client: AsyncClient) -> None:
        self.http = client
        self.tokens: list[str] = []
        self.issuing: list[Response] = []
        self.answers: list[Response] = []

    async def log_in(self, email: str, name: str) -> Device:
        """Log in on a device."""
        headers = {"X-Device-Name": name, "X-Device-Id": f"{email}/{name}"}
        return self._take(await self.http.post("/knox/login", data=credentials(email), headers=headers))

    async def rotate(self, device: Device) -> Device:
        """Rotate the token of a device."""
        return self._take(await device.call("POST", "/knox/rotate"))

    async def call(self, device: Device, method: str, path: str) -> int:
        """Send any other request and return its status."""
        self.answers.append(await device.call(method, path))
        return self.answers[-1].status_code

    def _take(self, response: Response) -> Device:
        """Remember the token that the response holds, and return the device that uses it."""
        assert response.status_code == 200
        self.issuing.append(response)
        self.tokens.append(response.json()["access_token"])
        return Device(http=self.http, token=self.tokens[-1])

    def secrets(self) -> set[str]:
        """Return the tokens, their secret parts and their digests in every likely spelling."""
        digests = [digest for token in self.tokens for digest in SETTINGS.digests(token, NOW)]
        texts = {*self.tokens, *(token[-49:-6] for token in self.tokens)}
        return texts | {spell(digest) for digest in digests for spell in (bytes.hex, _base64, repr)}


def _base64(digest: bytes) -> str:
    """Return the digest in base64 without padding."""
    return base64.b64encode(digest).decode().rstrip("=")


def written(response: Response) -> str:
    """Return the headers and the body of a response as one text."""
    return f"{response.headers.multi_items()}{response.text}"


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Give the backend a limit and let its tokens be refreshed."""
    return {"knox": SETTINGS}


@pytest.fixture
async def story(client: AsyncClient, database: Database) -> Story:
    """Create a user and an administrator, who have not logged in yet."""
    await database.create_user()
    await database.create_user("root@example.org", is_superuser=True)
    return Story(client)


async def play(story: Story, clock: Clock) -> list[int]:
    """Log in, look at the sessions, revoke them in every way there is, and return the statuses."""
    laptop, phone = [await story.log_in("ada@example.org", name) for name in ("laptop", "phone")]
    admin = await story.log_in("root@example.org", "desk")
    clock.now += HOUR
    statuses = [await story.call(laptop, "GET", "/knox/sessions")]
    old, laptop = laptop, await story.rotate(laptop)
    statuses += [await story.call(old, "GET", "/knox/sessions"), await story.call(laptop, "GET", "/users/me")]
    statuses += [await story.call(laptop, "DELETE", f"/knox/sessions/{await phone.id()}")]
    statuses += [await story.call(phone, "POST", "/knox/rotate"), await story.call(phone, "POST", "/knox/logout")]
    phone = await story.log_in("ada@example.org", "phone")
    statuses += [await story.call(phone, "POST", "/knox/logout-others"), await story.call(laptop, "GET", "/active")]
    user_id = (await phone.call("GET", "/users/me")).json()["id"]
    statuses += [await story.call(admin, "GET", f"/admin/knox/{user_id}/sessions")]
    statuses += [await story.call(phone, "GET", f"/admin/knox/{user_id}/sessions")]
    statuses += [await story.call(admin, "DELETE", f"/admin/knox/{user_id}/sessions")]
    statuses += [await story.call(phone, "GET", "/active"), await story.call(admin, "POST", "/knox/logout-all")]
    return statuses


async def test_the_story(story: Story, clock: Clock, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """Each step revokes exactly the sessions it names and publishes an event for each."""
    statuses = await play(story, clock)

    assert statuses == [200, 401, 200, 204, 401, 401, 204, 401, 200, 403, 204, 401, 204]
    revoked = [event.reason for event in events if isinstance(event, TokenRevoked)]
    assert revoked == ["session_revoked", "logout_others", "admin", "logout_all"]
    names = [type(event).__name__ for event in events]
    assert names.count("TokenIssued") == 4
    assert names.count("TokenRotated") == 1
    assert {"TokenExpired", "TokenLimitHit"}.isdisjoint(names)


async def test_no_answer_holds_a_token_or_a_digest(story: Story, clock: Clock) -> None:
    """Only the response that issues a token contains it, and no response contains a digest."""
    await play(story, clock)

    secrets = story.secrets()

    assert [secret for answer in story.answers for secret in secrets if secret in written(answer)] == []
    for token, issuing in zip(story.tokens, story.issuing, strict=True):
        others = secrets - {token, token[-49:-6]}
        assert [secret for secret in others if secret in written(issuing)] == []
        assert issuing.headers["Cache-Control"] == "no-store"


async def test_no_event_shows_a_token(story: Story, clock: Clock, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """The repr of an event contains neither a token nor a digest."""
    await play(story, clock)

    assert [secret for event in events for secret in story.secrets() if secret in repr(event)] == []
