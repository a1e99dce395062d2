"""Tables for users whose id is a number."""

from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTable
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable


class Base(DeclarativeBase):
    """The application's metadata."""


class User(SQLAlchemyBaseUserTable[int], Base):
    """A user."""

    id: Mapped[int] = mapped_column(primary_key=True)


class KnoxToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """What is stored about a token; `user_id` takes its type from the user's `id`."""
