"""Users in the table `app_users`, and their tokens."""

import uuid
from typing import TYPE_CHECKING

from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of all tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""

    __tablename__ = "app_users"


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """What is stored about a token."""

    if not TYPE_CHECKING:  # For type checkers, the base class declares `user_id` already.
        user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("app_users.id", ondelete="cascade"))
