"""The pages of the sessions: the list with its search and filters, the page of one session, and revocation."""

from collections.abc import Iterable, Sequence
from types import EllipsisType
from typing import Any, ClassVar

from fastapi import Request, status
from fastapi.exceptions import HTTPException
from sqladmin.pagination import Pagination
from sqlalchemy import Select, inspect
from sqlalchemy.orm import Mapper, defer

from fastapi_users_knox.admin.filters import AudienceFilter, StateFilter
from fastapi_users_knox.admin.formats import TYPE_FORMATS, format_state, format_user, note_emails
from fastapi_users_knox.admin.search import select_emails, session_matches, user_class_of
from fastapi_users_knox.admin.views import ReadOnlyView
from fastapi_users_knox.admin.visits import Session, visit_of

__all__ = ["KnoxTokenView"]

_USER = {"user_id": format_user, "state": format_state}


class KnoxTokenView(ReadOnlyView):
    """The sessions in sqladmin: `class SessionAdmin(KnoxTokenView, model=KnoxToken)`, then `admin.add_view(...)`.

    The list can be searched by user, IP address and device, and filtered by state and audience. The digests are not
    loaded from the database, so no page can show them. Sessions are not deleted but revoked, one or several at once,
    by the strategy with their audience, which publishes `TokenRevoked` with the reason "admin".

    The pages need `KnoxAdminAuth`. Set `name`, because sqladmin names each view after its model. The columns
    and further options are those of sqladmin's `ModelView`.

    Attributes:
        users: The mapped class of the users, as in `SQLAlchemyTokenStore`: by default, the class is found by the
            foreign key of `user_id`; `None` means that the users are not in this database.
    """

    users: ClassVar[type[Any] | EllipsisType | None] = ...

    secret_columns: ClassVar[frozenset[str]] = frozenset({"digest", "data"})
    can_delete: ClassVar[bool] = True
    icon: ClassVar[str] = "fa-solid fa-key"
    page_size: ClassVar[int] = 25
    column_list: ClassVar[str | Sequence[Any]] = [
        *("user_id", "state", "name", "device_id", "ip_address"),
        *("created_at", "last_used_at", "expires_at", "scopes"),
        "user_agent",  # It is long, so a browser may not show it before one scrolls.
    ]
    column_details_list: ClassVar[str | Sequence[Any]] = [
        *("id", "user_id", "state", "audience", "name", "device_id", "user_agent", "ip_address"),
        *("created_at", "authenticated_at", "last_used_at", "expires_at", "scopes", "browser_session"),
    ]
    column_sortable_list: ClassVar[Sequence[Any]] = ["created_at", "last_used_at", "expires_at"]
    column_default_sort: ClassVar[Any] = ("created_at", True)
    column_searchable_list: ClassVar[Sequence[Any]] = ["user_id", "ip_address", "name", "device_id"]
    column_filters: ClassVar[Sequence[Any]] = [StateFilter(), AudienceFilter()]
    column_formatters: ClassVar[dict[Any, Any]] = _USER
    column_formatters_detail: ClassVar[dict[Any, Any]] = _USER
    column_type_formatters: ClassVar[dict[type, Any]] = TYPE_FORMATS
    column_labels: ClassVar[dict[Any, str]] = {
        "user_id": "User",
        "state": "State",
        "audience": "Audience",
        "name": "Name",
        "device_id": "Device",
        "user_agent": "User agent",
        "ip_address": "IP address",
        "created_at": "Created",
        "authenticated_at": "Authenticated",
        "last_used_at": "Last used",
        "expires_at": "Expires",
        "scopes": "Scopes",
        "browser_session": "Ends with the browser",
    }

    @property
    def tokens(self) -> Mapper[Any]:
        """The mapper of the token class."""
        mapper: Mapper[Any] = inspect(self.model)
        return mapper

    def list_query(self, request: Request) -> Select[Any]:
        """Select the sessions that the filters choose, without their digests."""
        query = self._without_digest(super().list_query(request), request)
        filters = [each for each in self.get_filters() if isinstance(each, StateFilter | AudienceFilter)]
        chosen = [each.condition(request, self.tokens) for each in filters]
        return query.where(*(condition for condition in chosen if condition is not None))

    def details_query(self, request: Request) -> Select[Any]:
        """Select one session, without its digest."""
        return self._without_digest(super().details_query(request), request)

    def search_query(self, stmt: Select[Any], term: str) -> Select[Any]:
        """Select the sessions that a search finds."""
        return stmt.where(session_matches(self.tokens, user_class_of(self.tokens, self.users), term))

    def search_placeholder(self) -> str:
        """Return what can be searched for."""
        return "user, IP address or device"

    async def list(self, request: Request) -> Pagination:
        """Return a page of the list, and load the e-mail addresses of its users."""
        pagination = await super().list(request)
        await self._load_emails(request, pagination.rows)
        return pagination

    async def get_object_for_details(self, request: Request) -> Any:  # noqa: ANN401 (as in sqladmin)
        """Return a session, or `None` if there is none, and load the e-mail address of its user."""
        session = await super().get_object_for_details(request)
        await self._load_emails(request, [] if session is None else [session])
        return session

    async def delete_model(self, request: Request, pk: Any) -> None:  # noqa: ANN401 (as in sqladmin)
        """Revoke a session with the strategy, instead of deleting its row."""
        session = await self.get_object_for_delete(pk)
        if session is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, "The session has ended already")
        await self.on_model_delete(session, request)
        await visit_of(request).revoke(request, session)
        await self.after_model_delete(session, request)
        await self._emit_audit(request, "delete", pk, None)

    def _without_digest(self, query: Select[Any], request: Request) -> Select[Any]:
        visit_of(request)  # Without `KnoxAdminAuth`, anybody could see the sessions.
        return query.options(defer(self.tokens.attrs["digest"].class_attribute, raiseload=True))

    async def _load_emails(self, request: Request, sessions: Iterable[Session]) -> None:
        users = user_class_of(self.tokens, self.users)
        if users is not None:
            found = await self._run_arbitrary_query(select_emails(users, {each.user_id for each in sessions}))
            note_emails(request, dict(map(tuple, found)))
