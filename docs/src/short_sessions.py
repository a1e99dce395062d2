"""The options of a login: the sessions of administrators are short."""

from datetime import timedelta

from fastapi.requests import HTTPConnection
from fastapi_users_knox import LoginOptions

from db import User


def login_options(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Log administrators out after 30 minutes, and let them have one session."""
    if user.is_superuser:
        return LoginOptions(token_ttl=timedelta(minutes=30), token_limit_per_user=1, limit_policy="evict_oldest")
    return LoginOptions()
