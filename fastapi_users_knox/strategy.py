"""The strategy: FastAPI-Users' three methods, and further methods with which an application manages tokens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Any, Generic
from uuid import UUID

from fastapi.requests import HTTPConnection
from fastapi_users.authentication.strategy import Strategy
from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.events import ClientInfo, Listener, Publisher, RevokeReason, describe_client
from fastapi_users_knox.records import IssuedToken, TokenRecord
from fastapi_users_knox.records.fields import needed_scopes
from fastapi_users_knox.settings import GetLoginOptions, KnoxSettings, utc_now
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.transports.presented import authenticated_record
from fastapi_users_knox.verbs import issuing, reading, revoking, rotating
from fastapi_users_knox.verbs.context import Context, checked_context
from fastapi_users_knox.verbs.issuing import Wanted

__all__ = ["KnoxStrategy"]


class KnoxStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """A strategy whose opaque tokens are stored as hashes, expire, can be refreshed, and can be revoked at any time.

    The strategy keeps no state between calls. Make one for each request, or share one if its store can be shared. Every
    method that reads or writes the store raises `StoreUnavailable` (503) if the store cannot answer.

    To decide yourself who is authenticated, override `authenticate`, which `read_token`, `current_token` and the
    routers call. A subclass that overrides `read_token` is refused with a `TypeError`.

    Args:
        store: The token store.
        settings: The settings of the tokens.
        request: The request or WebSocket. Pass `None` in scripts: records then do not describe a client, and a login
            replaces no token.
        user_db: FastAPI-Users' user database adapter. It is required if the store cannot see the users, as with
            `RedisTokenStore`. After the strategy has stored a login, it uses the adapter to check that the user did not
            change during the login. `None` turns off this check and the check in `read_record`.
        listeners: Functions called with every event, after the write.
        describe_client: A function that returns the client information to store at login.
        login_options: A function, `async` or not, that is called with the user and the request (`None` in scripts)
            before a token is issued, and returns the `LoginOptions` for this token.
        clock: A function that returns the current time, timezone-aware.

    Raises:
        TypeError: An argument has the wrong type, or `user_db` is missing.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Refuse a subclass that overrides `read_token`, because the routers do not call that method."""
        super().__init_subclass__(**options)
        if cls.read_token is not KnoxStrategy.read_token:
            raise TypeError(f"{cls.__name__} overrides read_token: override authenticate, which the routers call")

    def __init__(
        self,
        store: TokenStore[UP, ID],
        settings: KnoxSettings = KnoxSettings(),
        *,
        request: HTTPConnection | None,
        user_db: BaseUserDatabase[UP, ID] | EllipsisType | None = ...,
        listeners: Iterable[Listener] = (),
        describe_client: Callable[[HTTPConnection], ClientInfo] = describe_client,
        login_options: GetLoginOptions | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Check the arguments. Nothing is sent to the store."""
        publisher = Publisher(listeners, request, describe_client)
        self._context: Context[UP, ID] = checked_context(
            store,
            settings,
            connection=request,
            user_db=user_db,
            publisher=publisher,
            clock=clock,
            login_options=login_options,
        )

    @property
    def store(self) -> TokenStore[UP, ID]:
        """The token store."""
        return self._context.store

    @property
    def settings(self) -> KnoxSettings:
        """The settings."""
        return self._context.settings

    def now(self) -> datetime:
        """Return the current time, by the strategy's clock."""
        return self._context.now()

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        """Return the active user of a live session's token; `None` for any other text.

        A token with scopes is refused, so none of FastAPI-Users' own dependencies and routers accepts it.
        """
        authenticated = await self.authenticate(token, user_manager)
        return None if authenticated is None else authenticated[0]

    async def authenticate(
        self,
        token: str | None,
        user_manager: BaseUserManager[UP, ID],
        *,
        touch: bool = True,
        scopes: Iterable[str] = (),
    ) -> tuple[UP, TokenRecord[ID]] | None:
        """Return the active user and the record of a live token; `None` for any other text.

        Afterwards `presented_record` returns this record, because it has authenticated the request.

        Args:
            token: The presented text; any text is allowed.
            user_manager: The user manager, which loads the user.
            touch: Whether the call counts as a use of the token. `False` writes nothing and keeps no session alive.
            scopes: The scopes that the request needs. A token with scopes is accepted only if it has all of these. If
                the request needs no scopes, such a token is refused like any other text.

        Raises:
            InsufficientScope: The token has scopes, but not all that the request needs.
        """
        return await reading.authenticate(self._context, token, user_manager, touch=touch, scopes=needed_scopes(scopes))

    async def authenticate_record(
        self, token: str | None, *, touch: bool = True, scopes: Iterable[str] = ()
    ) -> TokenRecord[ID] | None:
        """Do what `authenticate` does, but load no user. It is for services that need only the user's id.

        A store that cannot see the users accepts the token of a user whom `KnoxUserManagerMixin` has not deactivated.
        """
        return await reading.authenticate_record(self._context, token, touch=touch, scopes=needed_scopes(scopes))

    async def read_record(self, token: str | None, *, scopes: Iterable[str] = ()) -> TokenRecord[ID] | None:
        """Return the record of a live token of an active user; `None` for any other text.

        The method writes nothing. `scopes` has the same meaning as in `authenticate`. If the store cannot see the
        users, the method reads the user from `user_db`.
        """
        return await reading.read_record(self._context, token, scopes=needed_scopes(scopes))

    async def list_records(self, user: UP) -> list[TokenRecord[ID]]:
        """Return the records of a user's live tokens, newest first."""
        return await reading.list_records(self._context, user.id)

    def presented_record(self, user: UP) -> TokenRecord[ID] | None:
        """Return the record that authenticated this request, if it belongs to this user.

        Returns `None` if something else authenticated the request, such as a JWT.
        """
        record = authenticated_record(self._context.connection)
        return record if record is not None and record.user_id == user.id else None

    def is_fresh(self, record: TokenRecord[ID], within: timedelta) -> bool:
        """Return whether the user of a record authenticated within the given time.

        Refresh and rotation do not make a record fresh again. A token issued `by=` a record is as fresh as that record.
        """
        return self._context.now() - record.authenticated_at <= within

    async def write_token(self, user: UP) -> IssuedToken:
        """Issue a token at login, by calling `issue` with its defaults."""
        return await self.issue(user)

    async def issue(
        self,
        user: UP,
        *,
        by: TokenRecord[ID] | EllipsisType | None = ...,
        token_ttl: timedelta | EllipsisType | None = ...,
        max_ttl: timedelta | None = None,
        name: str | None = None,
        scopes: Iterable[str] | None = None,
        data: Mapping[str, Any] | None = None,
        replace: bool = True,
    ) -> IssuedToken:
        """Issue a token within the limit. `login_options` and the settings replace arguments that are not passed.

        Args:
            user: The user, as loaded when the credentials were checked.
            by: The record, as `current_token` returns it, of the session on whose authority the token is issued. Leave
                it out at a login. `None` is refused, because `presented_record` returns it if no session authenticated
                the request. The record must be in the same store. The new token gets its `authenticated_at`.
            token_ttl: The lifetime, also after each refresh; `None` means that the token never expires. The cap still
                applies.
            max_ttl: The longest lifetime. A longer lifetime is cut to it. `None` allows any lifetime.
            name: The name in the list of sessions, instead of the name that the client sent.
            scopes: What the token may be used for, as names of RFC 6749 §3.3, of at most 1 KB together. Only routes
                that name scopes accept a token with scopes. `None` issues a session, which may do all that its user
                may.
            data: The application's own data, a JSON object of at most 4 KB.
            replace: Whether the token replaces the tokens presented with the request and the record of the same
                device. Pass `False` for an additional token, such as a token for a machine.

        Raises:
            ValueError: The lifetime would not be valid as the setting `token_ttl`, or the scopes or data are not valid.
            InvalidToken: The record `by` is `None`, has scopes, belongs to another user, or is no longer live; or `by`
                is left out, but a token with scopes has authenticated this user in the request.
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The user is not active, or was changed or deleted after `user` was loaded.
        """
        wanted = Wanted(
            by=by, token_ttl=token_ttl, max_ttl=max_ttl, name=name, scopes=scopes, data=data, replace=replace
        )
        return await issuing.issue(self._context, user, wanted)

    async def roll_token(
        self,
        record: TokenRecord[ID],
        user: UP,
        *,
        by: TokenRecord[ID],
        overlap: timedelta,
        token_ttl: timedelta | EllipsisType | None = ...,
    ) -> IssuedToken:
        """Issue the successor of an API token. The old token expires when the overlap is over.

        The successor has a new id, and the same name, scopes and data. During the overlap, both tokens count for the
        limit. Of any number of simultaneous calls for one record, exactly one succeeds.

        Args:
            record: The record of the old token, as `list_records` returns it.
            user: The user.
            by: The record of the session on whose authority the successor is issued.
            overlap: How long the old token stays valid, unless it expires earlier. 0 revokes it at once.
            token_ttl: The lifetime of the successor, by default that of the old token.

        Raises:
            InvalidToken: `record` is a session; or one of the two records belongs to another user, or is no longer
                live; or the expiry of `record` has changed since it was read.
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The user is not active, or was changed or deleted after `user` was loaded.
        """
        return await issuing.roll(self._context, record, user, by=by, overlap=overlap, token_ttl=token_ttl)

    async def rotate_token(self, token: str, user: UP) -> IssuedToken:
        """Replace the text of a live token with a new text, and keep the record's id, `created_at` and `expires_at`.

        Raises:
            InvalidToken: The text is not a live token of this user, the user is not active, or another call has just
                rotated the token.
        """
        return await rotating.rotate(self._context, token, user)

    async def reauthenticate(self, token: str, user: UP, *, data: Mapping[str, Any] | None = None) -> IssuedToken:
        """Record that the user of a session has just proved again who they are, and replace the text of its token.

        Call this method after a check of your own, for example of a passkey, a second factor or an OAuth login. The
        record gets a new `authenticated_at`. Its id, `created_at`, `expires_at`, name and device do not change.

        Args:
            token: The text of the session's token.
            user: The user, as loaded when the proof was checked.
            data: The new data of the record. `None` keeps the existing data.

        Raises:
            ValueError: The data is not valid.
            InvalidToken: The text is not the token of a live session of this user, or another call has just rotated it.
            CredentialsChanged: The user is not active, or was changed or deleted after `user` was loaded.
        """
        return await rotating.reauthenticate(self._context, token, user, data=data)

    async def destroy_token(self, token: str, user: UP) -> None:
        """Log out: revoke the session of a token, or of each token in a cookie that was sent several times.

        Raises:
            InvalidToken: The text is not a live token of this user.
        """
        await revoking.log_out(self._context, token, user)

    async def revoke(
        self, user: UP, id: UUID, *, reason: RevokeReason = "session_revoked", audience: str | EllipsisType = ...
    ) -> bool:
        """Revoke one session of a user by its record's id, and return whether it was live.

        Args:
            user: The user.
            id: The id of the session's record.
            reason: The reason in the event.
            audience: The audience of the session, by default that of the settings.
        """
        return await revoking.revoke(self._context, user.id, id, reason=reason, audience=audience)

    async def logout_all(self, user: UP, *, keep: str | None = None, reason: RevokeReason | None = None) -> int:
        """Revoke all sessions of a user in this audience, and return the number that were live.

        After the call, no token issued earlier is accepted any more, except `keep`. No request is needed.

        Args:
            user: The user.
            keep: The text of one token whose session is kept.
            reason: The reason in the events; by default "logout_all", or "logout_others" if a session is kept.

        Raises:
            InvalidToken: `keep` is not a live token of this user, so nothing was revoked.
        """
        return await revoking.revoke_others(self._context, user, keep=keep, reason=reason)

    async def revoke_all(
        self,
        user_id: ID,
        *,
        reason: RevokeReason,
        audience: str | None = None,
        keep: UUID | None = None,
        keep_scoped: bool = False,
        seen: Iterable[TokenRecord[ID]] = (),
        peers: Sequence["KnoxStrategy[UP, ID]"] = (),
    ) -> list[TokenRecord[ID]]:
        """Revoke all sessions of a user in one transaction, and return the records that were live.

        The user is passed as an id, because the user may just have been deleted.

        Args:
            user_id: The user's id.
            reason: The reason in the events.
            audience: The audience; `None` means every audience in the store.
            keep: The id of one record that is kept.
            keep_scoped: Whether API tokens, which are the records with scopes, are kept too. This needs
                `audience=None`.
            seen: Records that the database may have deleted together with the user. These records get an event too.
            peers: Other strategies that have listeners. The event of a record is published by the first peer with the
                record's audience, or by this strategy if no peer has that audience.
        """
        contexts = [peer._context for peer in peers]  # noqa: SLF001 (they are of this class)
        return await revoking.revoke_all(
            self._context,
            user_id,
            reason=reason,
            audience=audience,
            keep=keep,
            keep_scoped=keep_scoped,
            seen=seen,
            peers=contexts,
        )

    async def purge(self, *, batch_size: int = 1000) -> int:
        """Delete expired records, and return how many were deleted.

        Call this method regularly, for example from cron, to delete the records of users who never return.

        Args:
            batch_size: The number of records that one transaction deletes, 1 to 10,000.

        Raises:
            ValueError: The batch size is less than 1 or more than 10,000.
        """
        return await revoking.purge(self._context, batch_size=batch_size)
