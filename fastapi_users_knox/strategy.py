"""FastAPI-Users' `Strategy` over a token store: what knox does at login, at each request and at logout."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as replace_fields
from datetime import UTC, datetime, timedelta
from functools import partial
from types import EllipsisType
from typing import Generic
from uuid import UUID, uuid4

from fastapi.requests import HTTPConnection
from fastapi_users.authentication.strategy import Strategy
from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox import tokens
from fastapi_users_knox.challenges import invalid_token
from fastapi_users_knox.errors import CredentialsChanged, InvalidToken, TokenLimitReached
from fastapi_users_knox.events import (
    ClientInfo,
    Listener,
    Publisher,
    RevokeReason,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
    TokenRefreshed,
    TokenRevoked,
    TokenRotated,
    describe_client,
)
from fastapi_users_knox.middleware import note_ended, note_refreshed
from fastapi_users_knox.presented import (
    CookieToken,
    authenticated_record,
    candidates,
    cookie_token,
    note_authenticated,
    presented_tokens,
)
from fastapi_users_knox.settings import KnoxSettings, utc_now
from fastapi_users_knox.store import Added, Credentials, Found, IssuedToken, TokenRecord, TokenStore
from fastapi_users_knox.users import load_user, stored_credentials

__all__ = ["KnoxStrategy"]


class KnoxStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Hashed opaque tokens that expire, refresh, are limited per user, and can be revoked one by one or all at once.

    It keeps nothing between calls: make one for each request, or share one where the store can be shared.

    A subclass that wants to decide for itself who is authenticated overrides `authenticate`, which `read_token`,
    `current_token` and the routers all call. Overriding `read_token` raises TypeError.

    Args:
        store: Where the records are.
        settings: What the tokens are like.
        request: The request or WebSocket at hand. `None` is for scripts: no client is described then, and a login
            replaces no token.
        user_db: FastAPI-Users' user database adapter, required with a store that cannot see the users, such as
            `RedisTokenStore`: a login checks there, after its write, that the user has not changed meanwhile. `None`
            means that this check, and that of `read_record`, is not wanted.
        listeners: Called with every event, after the write.
        describe_client: What is noted of the client at login.
        clock: Returns the current time, timezone-aware.

    Raises:
        TypeError: One of the arguments is something else, or `user_db` is missing.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Refuse a subclass whose way to authenticate the routers would pass by."""
        super().__init_subclass__(**options)
        if cls.read_token is not KnoxStrategy.read_token:
            raise TypeError(
                f"{cls.__name__} overrides read_token, which current_token and the knox routers do not call: "
                "override authenticate instead"
            )

    def __init__(
        self,
        store: TokenStore[UP, ID],
        settings: KnoxSettings = KnoxSettings(),
        *,
        request: HTTPConnection | None,
        user_db: BaseUserDatabase[UP, ID] | EllipsisType | None = ...,
        listeners: Iterable[Listener] = (),
        describe_client: Callable[[HTTPConnection], ClientInfo] = describe_client,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Take the store and the settings."""
        self._user_db = _check_setup(store, settings, request, user_db)
        self.store = store
        self.settings = settings
        self._request = request
        self._publisher = Publisher(listeners, request, describe_client)
        self._clock = clock

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        """Return the active user whose live token this is, else `None`."""
        authenticated = await self.authenticate(token, user_manager)
        return None if authenticated is None else authenticated[0]

    async def authenticate(
        self, token: str | None, user_manager: BaseUserManager[UP, ID], *, touch: bool = True
    ) -> tuple[UP, TokenRecord[ID]] | None:
        """Return the active user and the record of a live token, else `None`.

        The record counts from then on as the one that authenticated the request: see `presented_record`.

        Args:
            token: The text presented; any text.
            user_manager: Loads the user.
            touch: Whether this counts as use; `False` writes nothing and keeps no session alive.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        now = self._now()
        presented = await self._find(token, now, user_manager)
        if presented is None:
            return None
        text, found = presented
        if not self._is_live(found.record, now):
            if touch:
                await self._drop_expired(found, now)
            return None
        user = await self._active_user(found, user_manager)
        if user is None:
            return None
        note_authenticated(self._request, found.record)
        return user, (await self._touch(text, found, now) if touch else found.record)

    async def read_record(self, token: str | None) -> TokenRecord[ID] | None:
        """Return the record of the live token of an active user, else `None`.

        It writes nothing and loads no user. Over a store that cannot see the users, it asks `user_db` whether the user
        is active.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        now = self._now()
        presented = await self._find(token, now)
        if presented is None:
            return None
        _, found = presented
        is_accepted = self._is_live(found.record, now) and await self._is_active(found)
        return found.record if is_accepted else None

    async def write_token(self, user: UP) -> IssuedToken:
        """Issue a token at login: `issue` with its defaults."""
        return await self.issue(user)

    async def issue(
        self,
        user: UP,
        *,
        by: TokenRecord[ID] | None = None,
        token_ttl: timedelta | EllipsisType | None = ...,
        name: str | None = None,
        replace: bool = True,
    ) -> IssuedToken:
        """Issue a token, within the limit.

        Args:
            user: For whom, as loaded when the credentials were checked.
            by: The record on whose strength it is issued, as `current_token` gives it; `None`: the user has just logged
                in. The new record takes over its `authenticated_at`. It must be in the same store.
            token_ttl: Its lifetime, instead of the setting's; `None`: never expires. The cap holds for it too, and
                where `auto_refresh` is on, use moves its expiry to the setting's `token_ttl` from then, as in knox.
            name: What it is called in the list of sessions, instead of what the client calls itself.
            replace: Whether it takes the place of the token presented with the request and of this device's record;
                `False` for a token beside them, such as one for a machine.

        Raises:
            ValueError: The lifetime makes no sense.
            InvalidToken: The record `by` is not this user's, or is not live any more.
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The user is not active, or was changed or deleted since it was loaded.
            StoreUnavailable: The store cannot be written to.
        """
        if not user.is_active:
            raise CredentialsChanged
        now = self._now()
        if by is not None and not self._may_issue(by, user, now):
            raise invalid_token(self._request)
        ttl = self.settings.token_ttl if token_ttl is ... else token_ttl
        text = tokens.generate(tokens.routing_tag(user.id), prefix=self.settings.token_prefix)
        record = self._new_record(user.id, now, ttl, by=by, name=name, on_device=replace)
        credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
        added = await self._add(record, text, now, credentials, by=by, replace=replace)
        await self._publish_ended(added)
        await self._confirm(record, credentials, now)
        await self._publisher.publish(TokenIssued, user.id, record=record)
        return IssuedToken(
            text, record=record, user=user, issued_at=now, end_cookie_session=partial(self._end_cookie_session, now)
        )

    async def rotate_token(self, token: str, user: UP) -> IssuedToken:
        """Swap the text of a live token of this user for a new one; its id, login time and expiry stay.

        Raises:
            InvalidToken: It is no live token of this user, who must be active, or another call has just rotated it.
            StoreUnavailable: The store cannot be written to.
        """
        now = self._now()
        found = await self._find_own(token, user, now)
        if found.is_active is False or not user.is_active:
            raise invalid_token(self._request)
        text = tokens.generate(tokens.routing_tag(user.id), prefix=self.settings.token_prefix)
        if not await self.store.rotate(
            found, self.settings.digests(text, now)[0], now=now, created_since=self.settings.created_since(now)
        ):
            raise invalid_token(self._request)
        note_ended(self._request, found.record)
        await self._publisher.publish(TokenRotated, user.id, record=found.record)
        return IssuedToken(text, record=found.record, user=user, issued_at=now)

    async def destroy_token(self, token: str, user: UP) -> None:
        """End a token: logout. Where one cookie came several times, the sessions of all its values end.

        Raises:
            InvalidToken: It is no live token of this user.
            StoreUnavailable: The store cannot be written to.
        """
        now = self._now()
        found = await self._find_own(token, user, now)
        if not await self._remove(user.id, found.record.id, now, "logout"):
            raise invalid_token(self._request)
        values = CookieToken.values(token)
        for other in values if len(values) > 1 else ():  # Otherwise the browser would go on with one of these.
            await self._remove_presented(other, now, "logout")

    async def list_records(self, user: UP) -> list[TokenRecord[ID]]:
        """Return the records of a user's live tokens, the newest first.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        now = self._now()
        records = await self.store.list(
            user.id, audience=self.settings.audience, now=now, created_since=self.settings.created_since(now)
        )
        return [record for record in records if self._is_live(record, now)]

    async def revoke(self, user: UP, id: UUID, *, reason: RevokeReason = "session_revoked") -> bool:
        """End one of a user's tokens by its record's id, and tell whether it was live.

        Args:
            user: Whose.
            id: The record's.
            reason: What the event says.

        Raises:
            StoreUnavailable: The store cannot be written to.
        """
        return await self._remove(user.id, id, self._now(), reason)

    async def logout_all(self, user: UP, *, keep: str | None = None, reason: RevokeReason | None = None) -> int:
        """End all of a user's tokens, and return how many live ones that were.

        Once it has returned, no token issued before the call is accepted any more. It needs no request: call it in a
        route, in a user manager's hook or in a script.

        Args:
            user: Whose.
            keep: The text of one token to spare.
            reason: What the events say; `None`: "logout_all", or "logout_others" where one is kept.

        Raises:
            InvalidToken: The token to keep is no live token of this user; nothing was ended.
            StoreUnavailable: The store cannot be written to.
        """
        now = self._now()
        kept = None if keep is None else (await self._find_own(keep, user, now)).record.id
        told = reason or ("logout_all" if kept is None else "logout_others")
        return len(await self._remove_all(user.id, now, told, audience=self.settings.audience, keep=kept))

    async def revoke_all(
        self,
        user_id: ID,
        *,
        reason: RevokeReason,
        audience: str | None = None,
        keep: UUID | None = None,
        seen: Iterable[TokenRecord[ID]] = (),
        peers: Sequence["KnoxStrategy[UP, ID]"] = (),
    ) -> list[TokenRecord[ID]]:
        """Revoke all of a user's tokens in one transaction, and return the records that were live.

        It takes an id, as it may be called for a user who has just been deleted.

        Args:
            user_id: Whose.
            reason: What the events say.
            audience: Which ones; `None`: those of every audience in the store.
            keep: The id of one record to spare.
            seen: Records that the database may have deleted along with their user; they are published too.
            peers: Strategies of other audiences. Each record is published to the listeners of the first strategy of its
                audience, and to those of this strategy where there is none.

        Raises:
            StoreUnavailable: The store cannot be written to.
        """
        return await self._remove_all(
            user_id, self._now(), reason, audience=audience, keep=keep, seen=seen, peers=peers
        )

    async def publish_revoked(self, record: TokenRecord[ID], reason: RevokeReason) -> None:
        """Publish that a token was revoked, for a record that another strategy has removed."""
        await self._publisher.publish(TokenRevoked, record.user_id, record=record, reason=reason)

    def presented_record(self, user: UP) -> TokenRecord[ID] | None:
        """Return the record that authenticated this request, if it is this user's, else `None`.

        Whatever other tokens came with the request change nothing. It is `None` where no strategy of this package has
        authenticated the request, such as when the user came by a JWT.
        """
        record = authenticated_record(self._request)
        return record if record is not None and record.user_id == user.id else None

    def is_fresh(self, record: TokenRecord[ID], within: timedelta) -> bool:
        """Return whether the record's user authenticated within the given time.

        Neither refresh nor rotation makes a record fresh again, nor does a token that was issued by another.
        """
        return self._now() - record.authenticated_at <= within

    async def purge(self, *, batch_size: int = 1000) -> int:
        """Delete expired records, and return how many: for a cron job, as those of users who never return stay else.

        Args:
            batch_size: How many records one transaction deletes, 1 to 10,000.

        Raises:
            ValueError: The batch size is less than 1, or more than 10,000.
            StoreUnavailable: The store cannot be written to.
        """
        now = self._now()
        return await self.store.purge(
            audience=self.settings.audience,
            now=now,
            created_since=self.settings.capped_since(now),
            batch_size=batch_size,
        )

    # What follows serves the methods above, in their order.

    def _now(self) -> datetime:
        """Tell the time, once for each call, in whole milliseconds."""
        now = self._clock().astimezone(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _is_live(self, record: TokenRecord[ID], now: datetime) -> bool:
        return self.settings.is_live(record, now)

    async def _find(
        self, text: str | None, now: datetime, user_manager: BaseUserManager[UP, ID] | None = None
    ) -> tuple[str, Found[UP, ID]] | None:
        """Return the text that was found, and what for: of several values of a cookie, the newest that is accepted."""
        presented = [
            (token.text, found)
            for token in candidates(text)
            if (
                found := await self.store.get(
                    self.settings.digests(token.text, now),
                    tag=token.tag,
                    audience=self.settings.audience,
                    user_manager=user_manager,
                )
            )
        ]
        if len(presented) > 1:
            return max(presented, key=partial(self._preference, now=now))
        return presented[0] if presented else None

    def _preference(self, presented: tuple[str, Found[UP, ID]], *, now: datetime) -> tuple[bool, datetime]:
        found = presented[1]
        return found.is_active is not False and self._is_live(found.record, now), found.record.created_at

    async def _find_own(self, text: str, user: UP, now: datetime) -> Found[UP, ID]:
        presented = await self._find(text, now)
        found = None if presented is None else presented[1]
        if found is None or found.record.user_id != user.id or not self._is_live(found.record, now):
            raise invalid_token(self._request)
        return found

    async def _drop_expired(self, found: Found[UP, ID], now: datetime) -> None:
        record, capped_since = found.record, self.settings.capped_since(now)
        if record.is_live(now, created_since=capped_since):
            return  # Refused by `not_before` alone, which may yet be set back.
        if await self.store.purge(
            audience=self.settings.audience,
            now=now,
            created_since=capped_since,
            seen=found,
            tried_since=now - self.settings.min_refresh_interval,
        ):
            await self._publisher.publish(TokenExpired, record.user_id, record=record)

    async def _is_active(self, found: Found[UP, ID]) -> bool:
        """Return whether the user is active, where that can be seen."""
        if found.is_active is not None or self._user_db is None:
            return found.is_active is not False
        credentials = await stored_credentials(self._user_db, found.record.user_id)
        return credentials is not None and credentials.is_active

    async def _active_user(self, found: Found[UP, ID], user_manager: BaseUserManager[UP, ID]) -> UP | None:
        """Return the user, unless a row just read says inactive: a loaded object may be an older one of a session's."""
        if found.is_active is False:
            return None
        if found.user is not None:
            return found.user if found.is_active else None
        loaded = await load_user(user_manager, found.record.user_id)
        return loaded[0] if loaded is not None and loaded[1] else None

    async def _touch(self, text: str, found: Found[UP, ID], now: datetime) -> TokenRecord[ID]:
        """Write that the token is used, where that is due; refresh, `last_used_at` and re-keying travel together."""
        record = found.record
        if not self.settings.is_touch_due(record, now):
            return record
        expires_at = self.settings.refreshed_expiry(record, now)
        current = self.settings.digests(text, now)[0]
        if not await self.store.renew(
            found,
            now=now,
            unused_since=now - self.settings.min_refresh_interval,
            created_since=self.settings.created_since(now),
            expires_at=expires_at,
            digest=None if found.digest == current else current,
        ):
            return record
        touched = replace_fields(record, last_used_at=now, expires_at=expires_at or record.expires_at)
        if expires_at is not None:
            note_refreshed(self._request, text, record=touched)
            await self._publisher.publish(TokenRefreshed, record.user_id, record=touched)
        return touched

    def _may_issue(self, by: TokenRecord[ID], user: UP, now: datetime) -> bool:
        """Return whether a record is the user's and, by these settings if they are its own, live."""
        is_ours = by.audience == self.settings.audience
        return by.user_id == user.id and (self._is_live(by, now) if is_ours else by.is_live(now))

    def _new_record(
        self,
        user_id: ID,
        now: datetime,
        ttl: timedelta | None,
        *,
        by: TokenRecord[ID] | None,
        name: str | None,
        on_device: bool,
    ) -> TokenRecord[ID]:
        client = self._publisher.client()
        named = ClientInfo(name=name) if name is not None else client
        return TokenRecord(
            id=uuid4(),
            user_id=user_id,
            audience=self.settings.audience,
            created_at=now,
            authenticated_at=now if by is None else by.authenticated_at,
            expires_at=self.settings.expires_at(now, ttl),
            name=named.name,
            device_id=client.device_id if on_device else None,
            user_agent=client.user_agent,
            ip_address=client.ip_address,
        )

    async def _add(
        self,
        record: TokenRecord[ID],
        text: str,
        now: datetime,
        credentials: Credentials,
        *,
        by: TokenRecord[ID] | None,
        replace: bool,
    ) -> Added[ID]:
        presented = presented_tokens(self._request) if replace and self.settings.end_presented else []
        try:
            return await self.store.add(
                record,
                self.settings.digests(text, now)[0],
                now=now,
                created_since=self.settings.created_since(now),
                by=None if by is None else by.id,
                limit=self.settings.token_limit_per_user,
                limit_policy=self.settings.limit_policy,
                replaces=[digest for token in presented for digest in self.settings.digests(token, now)],
                credentials=credentials,
            )
        except InvalidToken as refused:
            raise invalid_token(self._request) from refused
        except TokenLimitReached as reached:
            await self._publisher.publish(TokenLimitHit, record.user_id, limit=reached.limit)
            raise

    async def _confirm(self, record: TokenRecord[ID], credentials: Credentials, now: datetime) -> None:
        """End the new record if its user has changed since it was loaded, for stores that cannot see the users."""
        if self.store.sees_users or self._user_db is None:
            return
        unchanged = False
        try:
            unchanged = credentials == await stored_credentials(self._user_db, record.user_id, latest=True)
        finally:
            if not unchanged:
                await self.store.remove(record.user_id, record.id, audience=record.audience, now=now)
        if not unchanged:
            raise CredentialsChanged

    async def _end_cookie_session(self, now: datetime, cookie_name: str) -> None:
        """End each session whose live token is in a cookie of this name, whoever's it is.

        These are the values by which the transport could let somebody in: see `cookie_token`.
        """
        for text in CookieToken.values(cookie_token(self._request, cookie_name) or ""):
            await self._remove_presented(text, now, "replaced")

    async def _remove_presented(self, text: str, now: datetime, reason: RevokeReason) -> None:
        """Remove the record of a token, whoever's it is, if it is live."""
        presented = await self._find(str(text), now)
        if presented is not None and self._is_live(presented[1].record, now):
            record = presented[1].record
            await self._remove(record.user_id, record.id, now, reason)

    async def _remove(self, user_id: ID, id: UUID, now: datetime, reason: RevokeReason) -> bool:
        record = await self.store.remove(
            user_id,
            id,
            audience=self.settings.audience,
            now=now,
            created_since=self.settings.created_since(now),
        )
        if record is not None:
            note_ended(self._request, record)
            await self._publisher.publish(TokenRevoked, user_id, record=record, reason=reason)
        return record is not None

    async def _remove_all(
        self,
        user_id: ID,
        now: datetime,
        reason: RevokeReason,
        *,
        audience: str | None,
        keep: UUID | None,
        seen: Iterable[TokenRecord[ID]] = (),
        peers: Sequence["KnoxStrategy[UP, ID]"] = (),
    ) -> list[TokenRecord[ID]]:
        removed = await self.store.remove_all(
            user_id, audience=audience, now=now, created_since=self.settings.created_since(now), keep=keep
        )
        ended = list({record.id: record for record in (*seen, *removed)}.values())
        note_ended(self._request, *ended)
        publishers = {peer.settings.audience: peer for peer in reversed(peers)}
        for record in ended:
            await publishers.get(record.audience, self).publish_revoked(record, reason)
        return ended

    async def _publish_ended(self, added: Added[ID]) -> None:
        note_ended(self._request, *added.expired, *added.replaced, *added.evicted)
        for record in added.expired:
            await self._publisher.publish(TokenExpired, record.user_id, record=record)
        for record in added.replaced:
            await self._publisher.publish(TokenRevoked, record.user_id, record=record, reason="replaced")
        for record in added.evicted:
            await self._publisher.publish(TokenRevoked, record.user_id, record=record, reason="evicted")


def _check_setup(
    store: TokenStore[UP, ID],
    settings: KnoxSettings,
    request: HTTPConnection | None,
    user_db: BaseUserDatabase[UP, ID] | EllipsisType | None,
) -> BaseUserDatabase[UP, ID] | None:
    """Return the user database to ask; refuse a set-up in which a check would silently be missing."""
    if not hasattr(store, "sees_users"):
        raise TypeError(
            f"store must be a TokenStore, such as SQLAlchemyTokenStore(session, KnoxToken), not {type(store).__name__}"
        )
    if not isinstance(settings, KnoxSettings):
        raise TypeError(f"settings must be KnoxSettings, not {type(settings).__name__}")
    if request is not None and not isinstance(request, HTTPConnection):
        raise TypeError(f"request must be a Request or WebSocket, or None in a script, not {type(request).__name__}")
    if isinstance(user_db, BaseUserDatabase) or user_db is None:
        return user_db
    if user_db is not ...:
        raise TypeError(f"user_db must be FastAPI-Users' user database adapter, not {user_db!r}")
    if not store.sees_users:
        raise TypeError(
            f"user_db is missing: {type(store).__name__} cannot see the users, so pass the user database adapter with "
            "which a login checks that its user has not changed meanwhile, or user_db=None to do without this check"
        )
    return None
