"""Users with integer ids in the table `app_users`, and their tokens."""

from typing import TYPE_CHECKING

from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTable
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of all tables."""


class User(SQLAlchemyBaseUserTable[int], Base):
    """A user."""

    __tablename__ = "app_users"

    if not TYPE_CHECKING:  # For type checkers, the base classes declare `id` and `user_id` already.
        id: Mapped[int] = mapped_column(primary_key=True)


class KnoxToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """What is stored about a token."""

    if not TYPE_CHECKING:
        user_id: Mapped[int] = mapped_column(ForeignKey("app_users.id", ondelete="cascade"))
