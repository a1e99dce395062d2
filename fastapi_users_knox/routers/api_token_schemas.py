"""The schemas of an API token: how a user asks for one, and how the routes return it."""

from collections.abc import Mapping
from datetime import timedelta
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, create_model

from fastapi_users_knox.records import IssuedToken, TokenRecord
from fastapi_users_knox.settings.types import MAX_TTL
from fastapi_users_knox.tokens import find_all

__all__ = ["ApiTokenCreate", "ApiTokenCreated", "ApiTokenRead", "ApiTokenRoll", "create_schema", "roll_schema"]

_EXAMPLE: dict[str, Any] = {
    "id": "0b5e2a3c-7c1f-4d53-9c55-1a2f7f1d9e10",
    "name": "Nightly report",
    "scopes": ["reports:read"],
    "created_at": "2030-01-01T12:00:00Z",
    "expires_at": "2030-04-01T12:00:00Z",
}
_CREATED: dict[str, Any] = {**_EXAMPLE, "token": "knox_pat_..."}
_READ: dict[str, Any] = {**_EXAMPLE, "last_used_at": "2030-01-02T03:00:00.123000Z"}


def _check_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name must have printable characters only")
    if any(find_all(name)):
        raise ValueError("a name must not contain a token")
    return name


_Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128), AfterValidator(_check_name)
]
_Seconds = Annotated[int, Field(strict=True)]


class ApiTokenCreate(BaseModel):
    """The API token that a user asks for. Unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: _Name = Field(description="What the token is for, of printable characters.")
    scopes: frozenset[str]
    expires_in: _Seconds | None = None

    @property
    def lifetime(self) -> timedelta | None:
        """How long the token should be valid; `None` if the user has not said."""
        return None if self.expires_in is None else timedelta(seconds=self.expires_in)


class ApiTokenRoll(BaseModel):
    """How long the old token stays valid, so that its successor can be deployed. Unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    overlap: _Seconds


class _ApiToken(BaseModel):
    """What the answers have in common."""

    id: UUID = Field(description="The identifier with which the token can be rolled and ended.")
    name: str | None = Field(description="What the token is for.")
    scopes: list[str] = Field(description="What the token may be used for, sorted.")
    created_at: AwareDatetime = Field(description="When the token was issued.")
    expires_at: AwareDatetime | None = Field(
        description="The token is refused from this moment on; null if it never expires."
    )

    @classmethod
    def fields_of(cls, record: TokenRecord[Any]) -> dict[str, Any]:
        """Return the values of these fields."""
        return {
            "id": record.id,
            "name": record.name,
            "scopes": sorted(record.scopes or ()),
            "created_at": record.created_at,
            "expires_at": record.expires_at,
        }


class ApiTokenCreated(_ApiToken, json_schema_extra={"examples": [_CREATED]}):
    """A new API token. Its text cannot be read again later."""

    token: str = Field(repr=False, description="The text of the token, which is shown only once.")

    @classmethod
    def of(cls, token: IssuedToken) -> Self:
        """Return the text of a new token, with what is stored about it."""
        return cls(token=str(token), **cls.fields_of(token.record))


class ApiTokenRead(_ApiToken, json_schema_extra={"examples": [_READ]}):
    """A live API token of a user: what is stored about it, never its text."""

    last_used_at: AwareDatetime | None = Field(
        description="When the token was last used, accurate to `min_refresh_interval`; null if it was never used."
    )

    @classmethod
    def of(cls, record: TokenRecord[Any]) -> Self:
        """Return those fields of a record that a user may see."""
        return cls(last_used_at=record.last_used_at, **cls.fields_of(record))


def create_schema(scopes: Mapping[str, str], max_ttl: timedelta | None) -> type[ApiTokenCreate]:
    """Return the schema with which users ask for a token, with the scopes and the lifetimes that are allowed."""
    meanings = "\n".join(f"- `{name}`: {meaning}" for name, meaning in scopes.items())
    names: Any = Literal[tuple(scopes)]
    several: Any = GenericAlias(frozenset, (Annotated[names, Field(json_schema_extra={"enum": [*scopes]})],))
    return create_model(
        "ApiTokenCreate",
        __base__=ApiTokenCreate,
        __doc__=ApiTokenCreate.__doc__,
        scopes=(
            several,
            Field(min_length=1, description=f"What the token may be used for, at least one of these:\n\n{meanings}"),
        ),
        expires_in=(
            Annotated[_Seconds, Field(gt=0, le=_seconds(max_ttl))] | None,
            Field(None, description="In how many seconds the token expires; if left out, after the default lifetime."),
        ),
    )


def roll_schema(max_ttl: timedelta | None) -> type[ApiTokenRoll]:
    """Return the schema with which users roll a token, with the overlaps that are allowed."""
    return create_model(
        "ApiTokenRoll",
        __base__=ApiTokenRoll,
        __doc__=ApiTokenRoll.__doc__,
        overlap=(
            Annotated[_Seconds, Field(ge=0, le=_seconds(max_ttl))],
            Field(description="How many seconds the old token stays valid; 0 ends it at once."),
        ),
    )


def _seconds(ttl: timedelta | None) -> int:
    return int((MAX_TTL if ttl is None else ttl).total_seconds())
