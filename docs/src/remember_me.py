"""The options of a login: a checkbox decides whether the browser remembers the user."""

from datetime import timedelta

from fastapi import Request
from fastapi.requests import HTTPConnection
from fastapi_users_knox import LoginOptions

from db import User


async def login_options(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Keep the session for 30 days if the checkbox is ticked; otherwise end it with the browser."""
    form = await connection.form() if isinstance(connection, Request) else {}
    if "remember" in form:
        return LoginOptions(token_ttl=timedelta(days=30))
    return LoginOptions(browser_session=True)
