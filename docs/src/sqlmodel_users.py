"""Users that are SQLModel classes, and their tokens."""

import uuid
from typing import TYPE_CHECKING

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel import Field, SQLModel


class Member(SQLModel, table=True):
    """A user."""

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    email: str = Field(unique=True)
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False


class Base(DeclarativeBase):
    """The application's other tables, in the same MetaData."""

    metadata = SQLModel.metadata


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """What is stored about a token."""

    if not TYPE_CHECKING:  # For type checkers, the base class declares `user_id` already.
        user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("member.id", ondelete="cascade"))
