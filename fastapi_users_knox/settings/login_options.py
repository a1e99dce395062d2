"""The options of a single login, which an application chooses by the user and the request."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from fastapi.requests import HTTPConnection
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fastapi_users_knox.records import LimitPolicy
from fastapi_users_knox.records.fields import checked_data
from fastapi_users_knox.settings.settings import KnoxSettings
from fastapi_users_knox.settings.types import Limit, Prefix, Ttl

__all__ = ["GetLoginOptions", "LoginOptions"]


class LoginOptions(BaseModel):
    """The options of a single login. For each option that is left out, the settings of the strategy apply.

    Pass a function that returns these options as `login_options=` to `knox_strategy` or `KnoxStrategy`. The strategy
    calls it for each token that it issues. In django-rest-knox: `get_token_ttl`, `get_token_limit_per_user` and
    `get_token_prefix` of the login view.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token_ttl: Ttl | None = timedelta(hours=10)
    """How long the token is valid after login, or after its last refresh; `None` means that the token never expires.
    The token keeps this lifetime, even if the settings change later. The cap still applies."""

    token_limit_per_user: Limit | None = None
    """How many live tokens of the audience this user may have, including this one; `None` means no limit."""

    limit_policy: LimitPolicy = "reject"
    """What happens to a login beyond the limit."""

    token_prefix: Prefix = "knox_"  # noqa: S105 (no secret)
    """The characters with which the text of the token begins."""

    name: str | None = None
    """The name of the session, instead of the name that the client sent."""

    data: Annotated[dict[str, Any], AfterValidator(checked_data)] = Field(default_factory=dict)
    """The application's own data about the session, a JSON object of at most 4 KB. The user sees it in `GET /sessions`.
    """

    browser_session: bool = False
    """Whether the cookie with the token ends when the browser is closed. The token itself expires as always."""

    def applied_to(self, settings: KnoxSettings) -> KnoxSettings:
        """Return the settings with those options that were given."""
        given = self.model_fields_set & KnoxSettings.model_fields.keys()
        return settings.model_copy(update={name: getattr(self, name) for name in given})


GetLoginOptions = Callable[[Any, HTTPConnection | None], LoginOptions | Awaitable[LoginOptions]]
"""A function, `async` or not, that is called with a user and the request or WebSocket, and returns the options.

The request is `None` if the strategy was made without one, as in a script.
"""
