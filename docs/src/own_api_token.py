"""An API token that a script issues, for example when the application is deployed."""

import asyncio
from datetime import timedelta

from fastapi_users_knox import ApiTokenSettings, KnoxStrategy
from sqlalchemy import select

from db import User, async_session_maker, get_token_store


async def issue(email: str) -> str:
    """Issue a token to the user with this e-mail address."""
    async with async_session_maker() as session:
        user = (await session.scalars(select(User).where(User.__table__.c.email == email))).one()
        strategy = KnoxStrategy(await get_token_store(session), ApiTokenSettings(), request=None)
        return await strategy.issue(
            user, name="Deployment", scopes={"reports:write"}, token_ttl=timedelta(hours=1), replace=False
        )


if __name__ == "__main__":
    print(asyncio.run(issue("jane@example.org")))
