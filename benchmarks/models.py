"""The application that is measured: its users, and the tokens of each strategy that keeps them in SQL."""

import uuid

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyBaseAccessTokenTableUUID
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID


class Base(DeclarativeBase):
    """The metadata."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A record of a token of ours."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A token of `DatabaseStrategy`."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A plain user manager."""
