"""Each session is revoked by the strategy with its audience, whose listeners get the event."""

import uuid
from dataclasses import replace
from typing import Annotated

import pytest
from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent
from tests.admin.site import API, Browser, Device, change_session
from tests.models import User
from tests.site import CurrentWorld, Knox, Served, Session, Store, get_store
from tests.strategies import reasons, stored

Events = list[KnoxEvent[uuid.UUID]]


@pytest.fixture
def api_events(served: Served) -> Events:
    """Give the strategy of the API tokens a listener of its own, and return the list of its events."""
    events: Events = []

    async def get_strategy(
        request: HTTPConnection, world: CurrentWorld, store: Annotated[Store, Depends(get_store)], session: Session
    ) -> Knox:
        return replace(world, listeners=[events.append]).strategy("api", store, session, request)

    served.app.dependency_overrides[API.get_strategy] = get_strategy
    return events


@pytest.fixture
def revocations(
    api_events: Events,
    events: Events,
    laptop: Device,  # noqa: ARG001 (it logs in)
    robot: Device,  # noqa: ARG001
    browser: Browser,  # noqa: ARG001
) -> dict[str, Events]:
    """Return the events of each listener after the logins."""
    api_events.clear()
    events.clear()
    return {"api": api_events, "": events}


async def test_the_listeners_of_the_audience_get_the_event(
    browser: Browser, engine: AsyncEngine, revocations: dict[str, Events]
) -> None:
    """If sessions of several audiences are revoked at once, each event goes to the listeners of its audience."""
    await browser.delete(*(row.id for row in await stored(engine) if row.name))

    assert {audience: reasons(events) for audience, events in revocations.items()} == {"api": ["admin"], "": ["admin"]}


async def test_the_button_on_the_page_of_a_user_publishes_likewise(
    browser: Browser, ada: User, revocations: dict[str, Events]
) -> None:
    """If all sessions of a user are revoked, each event goes to the listeners of its audience."""
    await browser.http.post(f"/admin/user/revoke-sessions/{ada.id}")

    assert {audience: reasons(events) for audience, events in revocations.items()} == {"api": ["admin"], "": ["admin"]}


async def test_a_session_of_an_unknown_audience_is_revoked_too(
    browser: Browser, ada: User, engine: AsyncEngine, revocations: dict[str, Events]
) -> None:
    """If no backend of its audience was passed, the button revokes a session all the same."""
    await change_session(engine, "laptop", audience="elsewhere")

    await browser.http.post(f"/admin/user/revoke-sessions/{ada.id}")

    assert [row.name for row in await stored(engine)] == [None]
    assert reasons(revocations[""]) == ["admin"]
