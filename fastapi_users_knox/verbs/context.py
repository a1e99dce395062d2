"""What the verbs of one strategy share, and how the text of a token is parsed."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import EllipsisType
from typing import Generic

from fastapi.requests import HTTPConnection
from fastapi_users.db import BaseUserDatabase
from fastapi_users.models import ID, UP

from fastapi_users_knox import tokens
from fastapi_users_knox.events import Publisher
from fastapi_users_knox.records import Credentials, Found
from fastapi_users_knox.settings import GetLoginOptions, KnoxSettings, LoginOptions
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.tokens import PresentedToken
from fastapi_users_knox.transports.presented import CookieToken
from fastapi_users_knox.users import users_of

__all__ = ["Context", "Recognized", "check_login_options", "checked_context"]

Recognized = tuple[str, PresentedToken]
"""A token that a client presented, with its text. The text may be used only to renew a cookie."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Context(Generic[UP, ID]):
    """What the verbs of one strategy share.

    Attributes:
        store: The token store.
        settings: The settings.
        connection: The request or WebSocket; `None` outside of requests.
        user_db: The user database, in which the user is checked if the store cannot see the users; `None` turns off
            these checks.
        publisher: The object that publishes the events.
        clock: A function that returns the current time, timezone-aware.
        login_options: A function that returns the options of a login; `None` means that the settings apply.
    """

    store: TokenStore[UP, ID]
    settings: KnoxSettings
    connection: HTTPConnection | None
    user_db: BaseUserDatabase[UP, ID] | None
    publisher: Publisher
    clock: Callable[[], datetime]
    login_options: GetLoginOptions | None = None

    def now(self) -> datetime:
        """Return the current time in UTC, in whole milliseconds. Each verb calls this method once."""
        now = self.clock().astimezone(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def recognize(self, text: str | None, now: datetime) -> Sequence[Recognized]:
        """Parse what a client presented: one token, or several if the client sent the same cookie several times.

        Returns each token with its text. The result is empty if the text does not have the shape of a token.
        """
        values = () if text is None else CookieToken.values(text)
        return [
            (value, PresentedToken(tag=tag, digests=self.settings.digests(value, now)))
            for value in values
            if (tag := tokens.parse(value)) is not None
        ]

    def is_live(self, found: Found[UP, ID], now: datetime) -> bool:
        """Return whether the record that was found is accepted at `now`."""
        return self.settings.is_live(found.record, now)

    async def options_for(self, user: UP) -> LoginOptions:
        """Return the options with which a token is issued to a user."""
        if self.login_options is None:
            return LoginOptions()
        options = self.login_options(user, self.connection)
        if inspect.isawaitable(options):
            options = await options
        if not isinstance(options, LoginOptions):
            raise TypeError(f"login_options must return LoginOptions, not {type(options).__name__}")
        return options

    async def is_unchanged(self, user_id: ID, credentials: Credentials) -> bool:
        """Return whether the user has not changed since the password was checked.

        A store that sees the users has already checked this.
        """
        if self.store.sees_users or self.user_db is None:
            return True
        return credentials == await users_of(self.user_db).credentials(user_id, latest=True)


def checked_context(
    store: TokenStore[UP, ID],
    settings: KnoxSettings,
    *,
    connection: HTTPConnection | None,
    user_db: BaseUserDatabase[UP, ID] | EllipsisType | None,
    publisher: Publisher,
    clock: Callable[[], datetime],
    login_options: GetLoginOptions | None,
) -> Context[UP, ID]:
    """Check the arguments of a strategy, and make the strategy's context from them.

    Raises:
        TypeError: An argument has the wrong type, or `user_db` is missing although the store needs it for a check.
    """
    if not hasattr(store, "sees_users"):
        raise TypeError(
            f"store must be a TokenStore, such as SQLAlchemyTokenStore(session, KnoxToken), not {type(store).__name__}"
        )
    if not isinstance(settings, KnoxSettings):
        raise TypeError(f"settings must be KnoxSettings, not {type(settings).__name__}")
    if connection is not None and not isinstance(connection, HTTPConnection):
        raise TypeError(f"request must be a Request or WebSocket, or None in a script, not {type(connection).__name__}")
    check_login_options(login_options)
    return Context(
        store=store,
        settings=settings,
        connection=connection,
        user_db=_checked_user_db(store, user_db),
        publisher=publisher,
        clock=clock,
        login_options=login_options,
    )


def check_login_options(login_options: object) -> None:
    """Raise `TypeError` if these login options are not a function."""
    if login_options is not None and not callable(login_options):
        raise TypeError(
            "login_options must be a function of the user and the request that returns LoginOptions, "
            f"not {type(login_options).__name__}"
        )


def _checked_user_db(
    store: TokenStore[UP, ID], user_db: BaseUserDatabase[UP, ID] | EllipsisType | None
) -> BaseUserDatabase[UP, ID] | None:
    if isinstance(user_db, BaseUserDatabase):
        return user_db
    if user_db is None or (user_db is ... and store.sees_users):
        return None
    if user_db is not ...:
        raise TypeError(f"user_db must be FastAPI-Users' user database adapter, not {user_db!r}")
    raise TypeError(
        f"user_db is missing: {type(store).__name__} cannot see the users, so pass the user database adapter, with "
        "which a login checks that the user has not changed meanwhile, or pass user_db=None to skip this check"
    )
