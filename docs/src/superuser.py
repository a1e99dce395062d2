"""Make a registered user a superuser."""

import asyncio
import sys
import uuid

from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from db import User, async_session_maker


async def promote(email: str) -> None:
    """Make the user with this e-mail address a superuser."""
    async with async_session_maker() as session:
        user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
        user = await user_db.get_by_email(email)
        if user is None:
            sys.exit(f"nobody has registered as {email}")
        await user_db.update(user, {"is_superuser": True})


if __name__ == "__main__":
    asyncio.run(promote(sys.argv[1]))
