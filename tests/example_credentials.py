"""Every kind of credential that a client may send to the example, and every route of the example."""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from example_app.app import app
from example_app.db import KnoxToken, User
from example_app.users import api_settings, settings
from fastapi_users_knox import IssuedToken, KnoxSettings, KnoxStrategy, tokens
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

READ, WRITE = frozenset({"reports:read"}), frozenset({"reports:write"})
TABLES: Sequence[Any] = (User.__table__, KnoxToken.__table__)


@dataclass(frozen=True, kw_only=True)
class Credential:
    """What a client sends.

    Attributes:
        headers: The headers.
        scheme: The security scheme of the OpenAPI document that the credential fulfils; an empty text if it is not
            valid.
        scopes: The scopes of an API token; `None` for a session.
        is_superuser: Whether it is a superuser's.
    """

    headers: Mapping[str, str]
    scheme: str = ""
    scopes: frozenset[str] | None = None
    is_superuser: bool = False

    def fulfils(self, security: Sequence[Mapping[str, Sequence[str]]]) -> bool:
        """Return whether a route with these requirements accepts the credential."""
        return any(
            self.scheme in each and (self.scopes is None or self.scopes.issuperset(each[self.scheme]))
            for each in security
        )


def bearing(token: str) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}


def in_cookie(token: str) -> dict[str, str]:
    """Return the cookie with a token."""
    return {"Cookie": f"__Host-knox={token}"}


class Issuer:
    """It issues the tokens of one user, at any time."""

    def __init__(self, session: AsyncSession, user: User) -> None:
        self._session = session
        self._user = user

    def strategy(self, settings: KnoxSettings, age: timedelta = timedelta(0)) -> KnoxStrategy[User, uuid.UUID]:
        """Return the strategy with these settings as it was some time ago."""
        users = SQLAlchemyUserDatabase[User, uuid.UUID](self._session, User)
        store = SQLAlchemyTokenStore[User, uuid.UUID](self._session, KnoxToken)
        return KnoxStrategy(store, settings, request=None, user_db=users, clock=lambda: datetime.now(UTC) - age)

    async def session(self) -> IssuedToken:
        """Issue a session."""
        return await self.strategy(settings).issue(self._user)

    async def api_token(self, scopes: frozenset[str], age: timedelta = timedelta(0)) -> IssuedToken:
        """Issue an API token some time ago."""
        return await self.strategy(api_settings, age).issue(self._user, scopes=scopes, name="Nightly")

    async def revoked(self, settings: KnoxSettings, token: IssuedToken) -> IssuedToken:
        """Revoke a token."""
        assert await self.strategy(settings).revoke(self._user, token.record.id)
        return token


async def issue_all(engine: AsyncEngine) -> dict[str, Credential]:
    """Store the users and their tokens, and return every kind of credential by its name."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        ada, root, eve = [
            User(email=f"{name}@example.org", hashed_password="hash", is_superuser=name == "root")
            for name in ("ada", "root", "eve")
        ]
        session.add_all([ada, root, eve])
        await session.commit()
        found = await _of_ada(Issuer(session, ada)) | await _of_root(Issuer(session, root))
        found |= await _of_eve(Issuer(session, eve))
        eve.is_active = False
        await session.commit()
        unknown = tokens.generate(tokens.routing_tag(ada.id), prefix="knox_pat_")
    return found | {
        "nothing": Credential(headers={}),
        "junk": Credential(headers=bearing("junk") | in_cookie("junk")),
        "an unknown token": Credential(headers=bearing(unknown) | in_cookie(unknown)),
    }


async def _of_ada(ada: Issuer) -> dict[str, Credential]:
    read = await ada.api_token(READ)
    old = await ada.api_token(READ | WRITE, api_settings.token_ttl or timedelta(0))
    ended = await ada.revoked(api_settings, await ada.api_token(READ | WRITE))
    gone = await ada.revoked(settings, await ada.session())
    return {
        "a session": Credential(headers=bearing(await ada.session()), scheme="KnoxBearer"),
        "a session in a cookie": Credential(headers=in_cookie(await ada.session()), scheme="KnoxCookie"),
        "a revoked session": Credential(headers=bearing(gone) | in_cookie(gone)),
        "an API token that may read": Credential(headers=bearing(read), scheme="ApiToken", scopes=READ),
        "an API token that may write": Credential(
            headers=bearing(await ada.api_token(WRITE)), scheme="ApiToken", scopes=WRITE
        ),
        "an API token in a cookie": Credential(headers=in_cookie(read)),
        "an expired API token": Credential(headers=bearing(old)),
        "a revoked API token": Credential(headers=bearing(ended)),
    }


async def _of_root(root: Issuer) -> dict[str, Credential]:
    token = await root.api_token(READ | WRITE)
    return {
        "a superuser's session": Credential(
            headers=bearing(await root.session()), scheme="KnoxBearer", is_superuser=True
        ),
        "a superuser's API token": Credential(
            headers=bearing(token), scheme="ApiToken", scopes=READ | WRITE, is_superuser=True
        ),
    }


async def _of_eve(eve: Issuer) -> dict[str, Credential]:
    return {
        "an inactive user's session": Credential(headers=bearing(await eve.session())),
        "an inactive user's API token": Credential(headers=bearing(await eve.api_token(READ | WRITE))),
    }


Rows = Sequence[Sequence[Row[Any]]]


async def saved(engine: AsyncEngine) -> Rows:
    """Return all rows of the database."""
    async with engine.connect() as connection:
        return [(await connection.execute(select(table))).all() for table in TABLES]


async def restore(engine: AsyncEngine, rows: Rows) -> None:
    """Undo what a request has done to the database."""
    async with engine.begin() as connection:
        for table in reversed(TABLES):
            await connection.execute(delete(table))
        for table, each in zip(TABLES, rows, strict=True):
            await connection.execute(insert(table), [row._asdict() for row in each])


@dataclass(frozen=True, kw_only=True)
class Route:
    """A route of the example.

    Attributes:
        method: The method, or "WEBSOCKET".
        path: The path as the OpenAPI document has it.
        security: The security requirements that are documented.
    """

    method: str
    path: str
    security: Sequence[Mapping[str, Sequence[str]]]

    @property
    def name(self) -> str:
        """The name in the table of answers."""
        return f"{self.method} {self.path}"

    @property
    def url(self) -> str:
        """The path, with an id that nothing has."""
        return re.sub(r"{\w+}", str(uuid.UUID(int=1)), self.path)


def all_routes() -> Iterator[Route]:
    """Yield the routes in the OpenAPI document, and the WebSockets, which accept the sessions of both backends."""
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield Route(method=method.upper(), path=path, security=operation.get("security", []))
    for route in _with_included(app.routes):
        if isinstance(route, APIWebSocketRoute):
            yield Route(method="WEBSOCKET", path=route.path, security=[{"KnoxBearer": []}, {"KnoxCookie": []}])


def undocumented() -> list[str]:
    """Return the paths that the application serves without saying so: routes that `all_routes` does not see."""
    sockets = [route for route in app.routes if isinstance(route, APIWebSocketRoute)]
    return [
        route.path
        for route in _with_included(app.routes)
        if (isinstance(route, APIRoute) and not route.include_in_schema)
        or (isinstance(route, APIWebSocketRoute) and route not in sockets)
    ]


def _with_included(routes: Sequence[Any]) -> Iterator[Any]:
    """Yield routes and those of the routers that are included."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _with_included(included.routes)
