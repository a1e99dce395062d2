"""The options of a login: the user's plan decides how many sessions the user may have."""

from fastapi.requests import HTTPConnection
from fastapi_users_knox import LoginOptions

from db import User

LIMITS = {"free": 2, "team": 10, "company": None}


async def login_options(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Refuse a login beyond the limit of the plan."""
    plan = await plan_of(user)
    return LoginOptions(token_limit_per_user=LIMITS[plan], limit_policy="reject")


async def plan_of(user: User) -> str:
    """Return the user's plan; a real application reads a column of the user, or calls its billing service."""
    return "team" if user.email.endswith("@example.org") else "free"
