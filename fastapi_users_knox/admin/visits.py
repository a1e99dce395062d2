"""A visit: what one request to the admin pages knows, and how it lists and revokes sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request, status
from fastapi.exceptions import HTTPException
from fastapi_users.exceptions import UserNotExists
from fastapi_users.models import UserProtocol
from sqlalchemy import ColumnElement, and_, or_, true
from sqlalchemy.orm import Mapper

from fastapi_users_knox.admin.dependencies import Dependencies, Opened
from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.settings import KnoxSettings
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable

__all__ = ["Session", "Visit", "visit_of"]


Session = TokenRecord[Any] | SQLAlchemyBaseKnoxTokenTable[Any]
"""A record, or a row of the token table, which has the same attributes."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request of a superuser to the admin pages.

    Attributes:
        dependencies: The application's dependencies.
        record: The record of the superuser's own session.
        now: The time of the request.
        settings: The settings of each audience for which a backend was passed.
    """

    dependencies: Dependencies[Any, Any]
    record: TokenRecord[Any]
    now: datetime
    settings: Mapping[str, KnoxSettings]

    def state_of(self, session: Session) -> str:
        """Return whether a session is the superuser's own, live or expired, in words."""
        if session.id == self.record.id:
            return "this session"
        record = TokenRecord(
            id=session.id,
            user_id=session.user_id,
            audience=session.audience,
            created_at=session.created_at,
            authenticated_at=session.authenticated_at,
            expires_at=session.expires_at,
        )
        settings = self.settings.get(session.audience, KnoxSettings())
        return "live" if settings.is_live(record, self.now) else "expired"

    def is_live(self, tokens: Mapper[Any]) -> ColumnElement[bool]:
        """Return the condition that matches the rows of live sessions."""
        expires_at = tokens.columns["expires_at"]
        allowed = [self._allows(tokens, audience, settings) for audience, settings in self.settings.items()]
        return and_(or_(expires_at.is_(None), expires_at > self.now), *allowed)

    def _allows(self, tokens: Mapper[Any], audience: str, settings: KnoxSettings) -> ColumnElement[bool]:
        """Match the rows of other audiences, and those of this audience that the cap and `not_before` allow."""
        capped_since = settings.capped_since(self.now)
        conditions = [] if capped_since is None else [tokens.columns["created_at"] >= capped_since]
        if settings.not_before is not None:
            conditions.append(tokens.columns["authenticated_at"] >= settings.not_before)
        return or_(tokens.columns["audience"] != audience, and_(true(), *conditions))

    async def list_records(self, request: Request, user: UserProtocol[Any]) -> list[TokenRecord[Any]]:
        """Return the live sessions of a user in every known audience, newest first."""

        async def work(opened: Opened[Any, Any]) -> list[TokenRecord[Any]]:
            found = [await strategy.list_records(user) for strategy in opened.by_audience.values()]
            return [record for records in found for record in records]

        records = await self.dependencies.run(request, work)
        return sorted(records, key=lambda record: record.created_at, reverse=True)

    async def revoke(self, request: Request, session: Session) -> None:
        """Revoke one session. The strategy with its audience publishes the event, or else that of the admin pages.

        Raises:
            HTTPException: The user does not exist.
        """

        async def work(opened: Opened[Any, Any]) -> None:
            strategy = opened.by_audience.get(session.audience, opened.strategies[0])
            try:
                user = await opened.user_manager.get(session.user_id)
            except UserNotExists as error:
                raise HTTPException(status.HTTP_404_NOT_FOUND, "The user of this session does not exist") from error
            await strategy.revoke(user, session.id, audience=session.audience, reason="admin")

        await self.dependencies.run(request, work)

    async def revoke_all(self, request: Request, user: UserProtocol[Any]) -> None:
        """Revoke all sessions of a user, of every audience, in the store of each strategy."""

        async def work(opened: Opened[Any, Any]) -> None:
            for strategy in opened.by_audience.values():
                await strategy.revoke_all(user.id, reason="admin", peers=opened.strategies)

        await self.dependencies.run(request, work)


def visit_of(request: Request) -> Visit:
    """Return the visit that a request belongs to.

    Raises:
        KnoxError: `KnoxAdminAuth` has not authenticated the request.
    """
    visit = getattr(request.state, "knox_visit", None)
    if not isinstance(visit, Visit):
        raise KnoxError("these pages need KnoxAdminAuth: pass Admin(..., authentication_backend=KnoxAdminAuth(...))")
    return visit
