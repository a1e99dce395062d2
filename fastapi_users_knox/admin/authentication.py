"""The login of sqladmin's pages: FastAPI-Users checks the password, and a token in a cookie is the session."""

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Generic

from fastapi import FastAPI, Request, Response, status
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import RedirectResponse
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.models import ID, UP
from sqladmin.authentication import AuthenticationBackend as SQLAdminBackend
from starlette.middleware import Middleware

from fastapi_users_knox.admin.dependencies import Dependencies, Opened
from fastapi_users_knox.admin.private_pages import PrivatePages
from fastapi_users_knox.admin.visits import Visit, visit_of
from fastapi_users_knox.errors import InvalidToken
from fastapi_users_knox.transports import KnoxCookieMiddleware, KnoxCookieTransport
from fastapi_users_knox.transports.origins import is_safe

__all__ = ["KnoxAdminAuth"]


class KnoxAdminAuth(SQLAdminBackend, Generic[UP, ID]):
    """Admit active superusers to sqladmin's pages: `Admin(app, engine, authentication_backend=KnoxAdminAuth(...))`.

    The login form calls the user manager's `authenticate` and `on_after_login`, as FastAPI-Users' login route does, so
    a throttle and the events apply. The session is a token of the backend, in the cookie of its transport. Each request
    checks the token and the user again, so a revoked token, a deactivated user and a user who is no superuser any more
    are refused at once.

    A request that may change something is accepted only if the transport `trusts` it as made by a page of the
    application's own origin. These are the requests with an unsafe method, and sqladmin's actions and its logout,
    although sqladmin uses GET for them. No response may be cached, or shown in a frame.

    sqladmin's `SessionMiddleware` is not used, and there is no secret key.

    Args:
        app: The application in which the pages are mounted. Its `dependency_overrides` apply.
        fastapi_users: The application's `FastAPIUsers` object.
        backend: The backend of the superusers' sessions, with a `KnoxStrategy` and a `KnoxCookieTransport`.
        session_backends: Further backends whose sessions the pages show and revoke, for example of API tokens. The
            strategy with a session's audience publishes the event when that session is revoked.

    Raises:
        TypeError: The backend's transport is not a `KnoxCookieTransport`, or a backend's strategy is declared to be
            something other than a `KnoxStrategy`.
    """

    def __init__(
        self,
        app: FastAPI,
        fastapi_users: FastAPIUsers[UP, ID],
        backend: AuthenticationBackend[UP, ID],
        *,
        session_backends: Iterable[AuthenticationBackend[UP, ID]] = (),
    ) -> None:
        """Check the backends. sqladmin's own `__init__` is not called, as it only adds the `SessionMiddleware`."""
        if not isinstance(backend.transport, KnoxCookieTransport):
            raise TypeError(
                f"backend {backend.name!r} must have a KnoxCookieTransport, not a {type(backend.transport).__name__}"
            )
        self.middlewares: list[Middleware] = [Middleware(PrivatePages), Middleware(KnoxCookieMiddleware)]
        self._backend = backend
        self._transport = backend.transport
        self._dependencies = Dependencies(app, fastapi_users, [backend, *session_backends])

    async def login(self, request: Request) -> Response | bool:
        """Log a superuser in, and go to the first page; `False` for anybody else."""
        if not self._transport.trusts(request):
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Another site made this request. Open the login page itself")
        form = await request.form()
        username, password = str(form.get("username", "")), str(form.get("password", ""))
        credentials = OAuth2PasswordRequestForm(username=username, password=password)
        return await self._dependencies.run(request, partial(self._log_in, request, credentials))

    async def _log_in(
        self, request: Request, credentials: OAuth2PasswordRequestForm, opened: Opened[UP, ID]
    ) -> Response | bool:
        user = await opened.user_manager.authenticate(credentials)
        if user is None or not user.is_active or not user.is_superuser:
            return False
        login = await self._backend.login(opened.strategies[0], user)
        response = _redirect(request, "admin:index", cookies_of=login)
        await opened.user_manager.on_after_login(user, request, response)
        return response

    async def logout(self, request: Request) -> Response | bool:
        """Revoke the session and delete the cookie, unless another site made the request."""
        connection = _as_unsafe(request)
        if not self._transport.trusts(connection):
            return _redirect(request, "admin:index")
        token = await self._transport.scheme(connection)
        if token is not None:
            await self._dependencies.run(request, partial(self._revoke, token))
        return _redirect(request, "admin:login", cookies_of=await self._transport.get_logout_response())

    async def _revoke(self, token: str, opened: Opened[UP, ID]) -> None:
        strategy = opened.strategies[0]
        found = await strategy.authenticate(token, opened.user_manager, touch=False)
        if found is not None:
            with suppress(InvalidToken):  # A simultaneous request has revoked it.
                await strategy.destroy_token(token, found[0])

    async def authenticate(self, request: Request) -> Response | bool:
        """Return whether the request has the token of an active superuser. sqladmin calls this for each request.

        Raises:
            HTTPException: It has not, and a redirect to the login page would lose what the request was to do.
        """
        token = await self._presented(request)
        visit = None if token is None else await self._dependencies.run(request, partial(self._admit, token))
        if visit is None and not is_safe(request):
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Log in again, then repeat this")
        request.state.knox_visit = visit
        return visit is not None

    async def _presented(self, request: Request) -> str | None:
        """Return the token in the cookie, unless another site may have made the request to change something."""
        connection = _as_unsafe(request) if "/action/" in request.scope["path"] else request
        token = await self._transport.scheme(connection)
        # The scheme does not ask this if the transport has `csrf_check=False`. sqladmin has no CSRF tokens of its own.
        return token if self._transport.trusts(connection) else None

    async def _admit(self, token: str, opened: Opened[UP, ID]) -> Visit | None:
        strategy = opened.strategies[0]
        found = await strategy.authenticate(token, opened.user_manager)
        if found is None or not found[0].is_active or not found[0].is_superuser:
            return None
        settings = {audience: strategy.settings for audience, strategy in opened.by_audience.items()}
        return Visit(dependencies=self._dependencies, record=found[1], now=strategy.now(), settings=settings)

    async def get_user_id(self, request: Request) -> Any:  # noqa: ANN401 (of the application's type)
        """Return the superuser's id, for sqladmin's audit and authorization backends."""
        return visit_of(request).record.user_id


def _as_unsafe(request: Request) -> HTTPConnection:
    """Return the connection of a request, as if its method were one that may change something."""
    return HTTPConnection({**request.scope, "method": "POST"})


def _redirect(request: Request, name: str, *, cookies_of: Response | None = None) -> Response:
    """Redirect to a page of sqladmin, with the cookies that another response sets."""
    response = RedirectResponse(request.url_for(name), status.HTTP_303_SEE_OTHER)
    headers = [] if cookies_of is None else cookies_of.raw_headers
    response.raw_headers.extend((key, value) for key, value in headers if key == b"set-cookie")
    return response
