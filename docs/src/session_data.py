"""The options of a login: the session knows the language that the user has chosen on the login page."""

from fastapi import Request
from fastapi.requests import HTTPConnection
from fastapi_users_knox import LoginOptions

from db import User

LANGUAGES = {"de", "en", "fr"}


async def login_options(user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Store the language, unless the form has none that the application knows."""
    form = await connection.form() if isinstance(connection, Request) else {}
    language = form.get("language")
    return LoginOptions(data={"language": language if language in LANGUAGES else "en"})
