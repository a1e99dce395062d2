"""An application with the admin pages, and the superuser's browser."""

import re
import uuid
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from httpx import AsyncClient, Response
from sqladmin import Admin, action
from sqladmin.audit import AuditBackend, AuditEntry
from sqladmin.authentication import get_current_user_id
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxCookieTransport, get_knox_router
from fastapi_users_knox.admin import KnoxAdminAuth, KnoxTokenView, KnoxUserView
from tests.models import KnoxToken, User
from tests.site import PASSWORD, Backend, bearing, create_users, credentials, knox_backend
from tests.throttling.site import get_user_manager

ROOT = "root@example.org"
ADMIN, KNOX, API = knox_backend("admin", KnoxCookieTransport("__Host-admin")), knox_backend(), knox_backend("api")


class SessionAdmin(KnoxTokenView, model=KnoxToken):
    """The pages of the sessions, with an action that has an effect."""

    name = "Session"

    @action("poke")
    async def poke(self, request: Request) -> PlainTextResponse:
        """Leave a note for the test."""
        request.state.world.notes.append("poked")
        return PlainTextResponse("poked")


class UserAdmin(KnoxUserView, model=User):
    """The pages of the users."""


@dataclass
class Audit(AuditBackend):
    """An audit of sqladmin that writes notes for the test."""

    async def log(self, entry: AuditEntry, request: Request) -> None:
        """Note who did what."""
        request.state.world.notes.append((entry.action, entry.pk, get_current_user_id(request)))


def create_app(
    engine: AsyncEngine, *, views: Any = (SessionAdmin, UserAdmin), backend: Backend = ADMIN, app: FastAPI | None = None
) -> FastAPI:
    """Build an application with the routes of each backend and the admin pages."""
    app = app or FastAPI()
    users = create_users(backend, KNOX, API, get_user_manager=get_user_manager)
    for each in (KNOX, API):
        app.include_router(users.get_auth_router(each), prefix=f"/{each.name}")
        app.include_router(get_knox_router(users, each), prefix=f"/{each.name}")
    auth = KnoxAdminAuth(app, users, backend, session_backends=[KNOX, API])
    admin = Admin(app, engine, authentication_backend=auth, audit_backend=Audit())
    for view in views:
        admin.add_view(view)
    return app


@dataclass(frozen=True, kw_only=True)
class Browser:
    """A browser at the admin pages.

    Attributes:
        http: The client, which keeps the cookies.
    """

    http: AsyncClient

    async def log_in(self, email: str = ROOT, password: str = PASSWORD, **headers: str) -> Response:
        """Send the login form."""
        return await self.http.post("/admin/login", data=credentials(email, password), headers=headers)

    async def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        return await self.http.get(path, headers=headers)

    async def is_admitted(self) -> bool:
        """Return whether the first page opens; otherwise it must redirect to the login page."""
        response = await self.get("/admin/")
        assert response.status_code == 200 or response.headers["Location"] == "https://test/admin/login"
        return response.status_code == 200

    async def rows(self, query: str = "") -> list[str]:
        """Return the rows of the list of sessions, as text."""
        response = await self.get(f"/admin/knox-token/list{query}")
        assert response.status_code == 200, response.text
        body = response.text.partition("<tbody>")[2].partition("</tbody>")[0]
        return [text_of(row) for row in body.split("<tr>")[1:]]

    async def rows_found(self, term: str) -> list[str]:
        """Return the rows that a search finds, as text."""
        return await self.rows(f"?search={quote(term)}")

    async def delete(self, *ids: uuid.UUID | str, **headers: str) -> Response:
        """Delete sessions, as the dialog of the list does."""
        pks = ",".join(map(str, ids))
        return await self.http.delete(f"/admin/knox-token/delete?pks={pks}", headers=headers)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A client that sends a user's token in the header.

    Attributes:
        http: The client.
        backend: The name of the backend whose routes it calls.
        token: The token.
    """

    http: AsyncClient
    backend: str
    token: str

    async def is_logged_in(self) -> bool:
        """Return whether the token is accepted."""
        response = await self.http.get(f"/{self.backend}/sessions", headers=bearing(self.token))
        return response.status_code == 200


async def change_session(engine: AsyncEngine, name: str, **values: object) -> None:
    """Update the session with this device name."""
    table = KnoxToken.__table__
    async with engine.begin() as connection:
        await connection.execute(update(KnoxToken).where(table.c.name == name).values(**values))


def text_of(html: str) -> str:
    """Return the text of HTML, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
