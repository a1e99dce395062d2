"""How the pages show the values of a session. Every text is escaped, because the browser at a login chooses it."""

from datetime import datetime
from typing import Any

from fastapi import Request
from markupsafe import Markup, escape
from sqladmin.formatters import BASE_FORMATTERS

from fastapi_users_knox.admin.visits import Session, visit_of

__all__ = ["TYPE_FORMATS", "format_scopes", "format_state", "format_time", "format_user", "note_emails", "table_of"]


def format_time(time: datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def format_scopes(scopes: frozenset[str]) -> str:
    """Return the scopes of an API token in alphabetical order."""
    return " ".join(sorted(scopes))


TYPE_FORMATS: dict[type, Any] = {**BASE_FORMATTERS, datetime: format_time, frozenset: format_scopes}


def format_state(session: Session, _name: str, request: Request) -> str:
    """Return whether a session is live."""
    return visit_of(request).state_of(session)


def format_user(session: Session, _name: str, request: Request) -> Markup:
    """Return the e-mail address of the session's user, linked to the list of all of the user's sessions."""
    emails: dict[Any, str] = getattr(request.state, "knox_emails", {})
    url = request.url_for("admin:list", identity=request.path_params["identity"])
    link = url.include_query_params(search=str(session.user_id))
    return Markup('<a href="{}">{}</a>').format(str(link), emails.get(session.user_id, session.user_id))


def note_emails(request: Request, emails: dict[Any, str]) -> None:
    """Keep the e-mail addresses of users, by the users' ids, for `format_user`."""
    request.state.knox_emails = emails


def table_of(headings: list[str], rows: list[list[object]]) -> Markup:
    """Return a table, in which every value is escaped unless it is markup."""
    head = Markup().join(Markup("<th>{}</th>").format(heading) for heading in headings)
    body = Markup().join(
        Markup("<tr>{}</tr>").format(Markup().join(Markup("<td>{}</td>").format(_cell(value)) for value in row))
        for row in rows
    )
    return Markup('<table class="table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(head, body)


def _cell(value: object) -> Markup:
    """Return a value as its type is shown in the lists."""
    show = TYPE_FORMATS.get(type(value))
    return escape(value if show is None else show(value))
