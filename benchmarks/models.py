"""The tables of the measured application: users, and the tokens of each strategy that stores them in SQL."""

import uuid

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyBaseAccessTokenTableUUID
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox import KnoxUserManagerMixin
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID


class Base(DeclarativeBase):
    """The declarative base of the tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token record of `KnoxStrategy`."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A token of `DatabaseStrategy`."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager without `KnoxUserManagerMixin`."""


class KnoxUserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The user manager of an application with `KnoxStrategy`, as the tutorial has it."""
