"""The pages of the users, of which that of one user lists the user's live sessions and can revoke all of them."""

from collections.abc import Sequence
from typing import Any, ClassVar

from fastapi import Request, Response, status
from fastapi.exceptions import HTTPException
from fastapi.responses import RedirectResponse
from fastapi_users.models import UserProtocol
from markupsafe import Markup
from sqladmin import expose

from fastapi_users_knox.admin.formats import table_of
from fastapi_users_knox.admin.token_view import KnoxTokenView
from fastapi_users_knox.admin.views import ReadOnlyView
from fastapi_users_knox.admin.visits import visit_of
from fastapi_users_knox.records import TokenRecord

__all__ = ["KnoxUserView"]

_SESSIONS = "sessions"
_HEADINGS = ["State", "Name", "User agent", "IP address", "Created", "Last used", "Expires", "Scopes"]
_BUTTON = Markup(
    '<form method="post" action="{}"><button class="btn btn-danger">Revoke all sessions of this user</button></form>'
)


class KnoxUserView(ReadOnlyView):
    """The users in sqladmin: `class UserAdmin(KnoxUserView, model=User)`, then `admin.add_view(UserAdmin)`.

    The page of one user lists the user's live sessions, wherever the tokens are stored, and has a button that revokes
    all of them, of every audience. No page shows the hash of a password.

    The pages change no user, because sqladmin writes to the database directly. The user manager would not hash a
    password, nor revoke the sessions of a user whose password changes. The pages need `KnoxAdminAuth`.
    """

    secret_columns: ClassVar[frozenset[str]] = frozenset({"hashed_password"})
    column_list: ClassVar[str | Sequence[Any]] = ["email", "is_active", "is_superuser", "is_verified"]
    column_searchable_list: ClassVar[Sequence[Any]] = ["email"]
    column_labels: ClassVar[dict[Any, str]] = {
        "email": "E-mail address",
        "is_active": "Active",
        "is_superuser": "Superuser",
        "is_verified": "Verified",
        _SESSIONS: "Sessions",
    }
    icon: ClassVar[str] = "fa-solid fa-user"

    def get_details_columns(self) -> list[str]:
        """Return the columns of the page of one user, and the sessions below them."""
        return [*super().get_details_columns(), _SESSIONS]

    async def get_detail_value(self, obj: Any, prop: str, request: Request | None = None) -> tuple[Any, Any]:  # noqa: ANN401 (as in sqladmin)
        """Return a value and how it is shown. sqladmin calls this on the page of one user."""
        if prop != _SESSIONS or request is None:
            return await super().get_detail_value(obj, prop, request)
        return None, await self._show_sessions(obj, request)

    @expose("/revoke-sessions/{pk:path}", methods=["POST"], include_in_schema=False)
    async def revoke_sessions(self, request: Request) -> Response:
        """Revoke all sessions of a user, and return to the user's page."""
        user = await self.get_object_for_details(request)
        if user is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        await visit_of(request).revoke_all(request, user)
        return RedirectResponse(self._build_url_for("admin:details", request, user), status.HTTP_303_SEE_OTHER)

    async def _show_sessions(self, user: UserProtocol[Any], request: Request) -> Markup:
        records = await visit_of(request).list_records(request, user)
        if not records:
            return Markup("none")
        url = request.url_for(f"admin:view-{self.identity}-revoke_sessions", pk=str(user.id))
        rows = [self._row_of(record, request) for record in records]
        return table_of(_HEADINGS, rows) + _BUTTON.format(str(url))

    def _row_of(self, record: TokenRecord[Any], request: Request) -> list[object]:
        state = self._link(record, request, visit_of(request).state_of(record))
        shown = [record.name or record.device_id, record.user_agent, record.ip_address]
        return [state, *shown, record.created_at, record.last_used_at, record.expires_at, record.scopes]

    def _link(self, record: TokenRecord[Any], request: Request, text: str) -> str:
        """Link a text to the page of the session, if the administration has the pages of the sessions."""
        views = [view for view in self._admin_ref.views if isinstance(view, KnoxTokenView)]
        if not views:
            return text
        url = request.url_for("admin:details", identity=views[0].identity, pk=str(record.id))
        return Markup('<a href="{}">{}</a>').format(str(url), text)
