"""The filters of the list of sessions. The view applies them, because sqladmin does not pass the request to filters."""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from sqlalchemy import ColumnElement, Select, not_
from sqlalchemy.orm import Mapper

from fastapi_users_knox.admin.visits import visit_of

__all__ = ["AudienceFilter", "StateFilter"]

_ALL = ("__all", "All")


class _SessionFilter:
    """A filter in the form that sqladmin expects. sqladmin's own template shows it."""

    has_operator = False
    template = "sqladmin/filters/lookup_filter.html"
    title: str
    parameter_name: str

    async def get_filtered_query(self, query: Select[Any], value: Any, model: Any) -> Select[Any]:  # noqa: ANN401, ARG002 (as in sqladmin)
        """Return the query unchanged: the view has filtered it already."""
        return query


class StateFilter(_SessionFilter):
    """Show live sessions, or the expired ones that have not been purged yet."""

    title = "State"
    parameter_name = "state"

    async def lookups(self, request: Request, model: Any, run_query: Callable[..., Any]) -> list[tuple[str, str]]:  # noqa: ANN401, ARG002 (as in sqladmin)
        """Return the values and their labels."""
        return [_ALL, ("live", "Live"), ("expired", "Expired")]

    def condition(self, request: Request, tokens: Mapper[Any]) -> ColumnElement[bool] | None:
        """Return the condition that the request chooses, if any."""
        chosen = request.query_params.get(self.parameter_name)
        if chosen not in {"live", "expired"}:
            return None
        is_live = visit_of(request).is_live(tokens)
        return is_live if chosen == "live" else not_(is_live)


class AudienceFilter(_SessionFilter):
    """Show the sessions of one audience, of those for which a backend was passed to `KnoxAdminAuth`."""

    title = "Audience"
    parameter_name = "audience"

    async def lookups(self, request: Request, model: Any, run_query: Callable[..., Any]) -> list[tuple[str, str]]:  # noqa: ANN401, ARG002 (as in sqladmin)
        """Return the values and their labels. The values begin with "=", because sqladmin ignores an empty one."""
        return [_ALL, *((f"={audience}", audience or "(default)") for audience in visit_of(request).settings)]

    def condition(self, request: Request, tokens: Mapper[Any]) -> ColumnElement[bool] | None:
        """Return the condition that the request chooses, if any."""
        chosen = request.query_params.get(self.parameter_name, "")
        return tokens.columns["audience"] == chosen[1:] if chosen.startswith("=") else None
