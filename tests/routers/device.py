"""A client that is logged in, the routes of sessions, and the kinds of store on which the routes are tested."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.site import PASSWORD, bearing

# For a route, stores differ only in whether they can see the users, so one store of each kind is enough: SQL can see
# them, and Redis cannot. The differences between databases are tested with the stores, and one whole story runs on each
# kind of server. The stores' own tests measure their coverage.
REDIS = pytest.param("redis-7", marks=pytest.mark.unmeasured)
POSTGRESQL = pytest.param("postgresql-asyncpg", marks=pytest.mark.unmeasured)
MARIADB = pytest.param("mariadb", marks=pytest.mark.unmeasured)
on_each_kind_of_store = pytest.mark.parametrize("any_backend", ["sqlite", REDIS], indirect=True)
on_each_server = pytest.mark.parametrize("any_backend", ["sqlite", POSTGRESQL, REDIS], indirect=True)
on_each_database = pytest.mark.parametrize("any_backend", ["sqlite", POSTGRESQL, MARIADB, REDIS], indirect=True)
ROUTES = [
    ("POST", "/knox/logout-all"),
    ("POST", "/knox/logout-others"),
    ("GET", "/knox/sessions"),
    ("DELETE", f"/knox/sessions/{uuid.UUID(int=1)}"),
    ("POST", "/knox/rotate"),
    ("POST", "/knox/reauthenticate"),
]
each_route = pytest.mark.parametrize(("method", "path"), ROUTES, ids=[path.split("/")[2] for _, path in ROUTES])


@dataclass(frozen=True, kw_only=True)
class Device:
    """A client that sends a user's token in the header."""

    http: AsyncClient
    token: str

    async def call(self, method: str, path: str, json: object = None) -> Response:
        """Send a request with the token, and with a body if there is one."""
        return await self.http.request(method, path, headers=bearing(self.token), json=json)

    async def reauthenticate(self, prefix: str = "/knox", password: str = PASSWORD) -> Response:
        """Send the password again, with the token."""
        form = {"password": password}
        return await self.http.post(f"{prefix}/reauthenticate", headers=bearing(self.token), data=form)

    async def sessions(self) -> list[dict[str, Any]]:
        """Return the list of the user's sessions."""
        response = await self.call("GET", "/knox/sessions")
        assert response.status_code == 200, response.text
        listed: list[dict[str, Any]] = response.json()
        return listed

    async def id(self) -> str:
        """Return the id of the current session."""
        [own] = [session["id"] for session in await self.sessions() if session["current"]]
        return str(own)

    async def is_logged_in(self) -> bool:
        """Return whether the token is accepted."""
        return (await self.call("GET", "/active")).status_code == 200
