"""Run the application, with a demo user and an administrator."""

import asyncio
import errno
import os
import socket
import sys
import uuid
from contextlib import suppress

import uvicorn
from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.app import app
from example_app.db import User, async_session_maker, create_tables, engine
from example_app.schemas import UserCreate
from example_app.tokens import get_token_store, place
from example_app.users import UserManager, settings
from fastapi_users_knox import KnoxStrategy

HOST = "127.0.0.1"
EMAIL = "demo@example.com"
ADMIN_EMAIL = "admin@example.com"
PASSWORD = "knox-knox"

GREETING = """\
The example runs on {url} (all its routes: {url}/docs). Ctrl-C stops it.
Its database is {database}; its tokens are in {tokens}. Its user is {email}, with the password {password}.
The pages for administrators are on http://localhost:{port}/admin: log in as {admin_email}, with the same password.

Paste these lines into another shell, one after the other. They log in, call a protected route, log in from a second
device, log out everywhere, and show that both tokens are refused from then on:

{lines}
"""


async def register() -> None:
    """Register the demo user and the administrator, unless an earlier run has done so."""
    await create_tables()
    async with async_session_maker() as session:
        user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
        strategy = KnoxStrategy(await get_token_store(session), settings, request=None, user_db=user_db)
        manager = UserManager(user_db, knox=strategy)
        for email in (EMAIL, ADMIN_EMAIL):
            with suppress(UserAlreadyExists):
                await manager.create(UserCreate(email=email, password=PASSWORD, is_superuser=email == ADMIN_EMAIL))


def listen(port: int) -> socket.socket:
    """Listen on the port, or exit with advice if the port is taken; 0 stands for any free port."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(f"Port {port} is taken: choose another one, such as `make demo PORT={port + 1}`.")


def lines(url: str) -> list[str]:
    """Return the shell lines to try. They keep the tokens in shell variables."""
    cut = """sed 's/.*"access_token":"//; s/".*//'"""
    login = f"$(curl -s {url}/auth/login -d 'username={EMAIL}&password={PASSWORD}' | {cut})"
    protected = f"curl -s {url}/authenticated-route -H"
    return [
        f'LAPTOP={login}; echo "$LAPTOP"',
        rf"""{protected} "Authorization: Bearer $LAPTOP" -w '\n'""",
        f'PHONE={login}; echo "$PHONE"',
        rf"""curl -s -X POST {url}/auth/logout-all -H "Authorization: Bearer $PHONE" -w '%{{http_code}}\n'""",
        rf"""for TOKEN in $LAPTOP $PHONE; do {protected} "Authorization: Bearer $TOKEN" -w ' %{{http_code}}\n'; done""",
    ]


def greet(port: int) -> None:
    """Print what runs where, and what to try."""
    url = f"http://{HOST}:{port}"
    places = {"database": engine.url, "tokens": place(), "port": port}
    users = {"email": EMAIL, "admin_email": ADMIN_EMAIL, "password": PASSWORD}
    print(GREETING.format(url=url, lines="\n".join(lines(url)), **places, **users), flush=True)  # noqa: T201


async def main() -> None:
    """Serve until interrupted."""
    with listen(int(os.environ.get("PORT", "8000"))) as listening:
        await register()
        greet(listening.getsockname()[1])
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listening])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
