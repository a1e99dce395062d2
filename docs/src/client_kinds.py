"""The options of a login: the route decides what kind of client logs in."""

from fastapi.requests import HTTPConnection
from fastapi_users_knox import LoginOptions

from db import User


def login_options(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Let a browser's sixth session end the one that was used longest ago, and refuse a sixth one to a program."""
    if connection is not None and connection.url.path.startswith("/browser/"):
        return LoginOptions(token_limit_per_user=5, limit_policy="evict_least_recently_used", token_prefix="web_")
    return LoginOptions(token_limit_per_user=5, limit_policy="reject", token_prefix="cli_")
