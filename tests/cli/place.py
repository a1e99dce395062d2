"""A place where tokens are, what its application does, and the program that an operator runs."""

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from anyio import to_thread
from typer.testing import CliRunner, Result

from fastapi_users_knox import IssuedToken, KnoxSettings, KnoxStrategy, tokens
from fastapi_users_knox.cli import program
from fastapi_users_knox.settings.settings import utc_now
from tests.backends import Backend, OpenApp
from tests.conftest import backend_of
from tests.models import User

TABLE = "tests.models:KnoxToken"
DEFAULTS = KnoxSettings()
NO_VARIABLES: Mapping[str, str] = {}


@dataclass(kw_only=True)
class Place:
    """The tokens of one application.

    Attributes:
        backend: Where they are.
        open_app: A function that opens what a request of the application has.
        options: The options with which the program finds them.
        tokens: All tokens that were issued.
    """

    backend: Backend
    open_app: OpenApp
    options: Sequence[str]
    tokens: list[str] = field(default_factory=list)

    async def create_user(self, email: str = "") -> User:
        """Store a user, with this address or a random one."""
        async with self.open_app() as app:
            user = User(email=email or f"{uuid4()}@example.org", hashed_password="hash")
            app.session.add(user)
            await app.session.commit()
            return user

    async def log_in(
        self, user: User, *, ago: timedelta = timedelta(0), settings: KnoxSettings = DEFAULTS, **options: Any
    ) -> IssuedToken:
        """Issue a token some time ago."""
        async with self.strategy(settings, ago=ago) as strategy:
            token = await strategy.issue(user, **options)
        self.tokens.append(token)
        return token

    async def accepts(self, token: IssuedToken, settings: KnoxSettings = DEFAULTS) -> bool:
        """Return whether a token is live."""
        async with self.strategy(settings) as strategy:
            records = await strategy.store.list(
                token.record.user_id, audience=settings.audience, now=utc_now(), created_since=None
            )
        return token.record.id in {record.id for record in records}

    @asynccontextmanager
    async def strategy(
        self, settings: KnoxSettings = DEFAULTS, *, ago: timedelta = timedelta(0)
    ) -> AsyncIterator[KnoxStrategy[User, UUID]]:
        """Open a strategy whose clock stands still."""
        async with self.open_app() as app:
            yield app.strategy(settings, now=utc_now() - ago)

    @asynccontextmanager
    async def in_other_loop(self) -> AsyncIterator["Place"]:
        """Return the place with connections of its own, for listeners, which run in the event loop of the program."""
        async with self.backend.serving() as open_app:
            yield replace(self, open_app=open_app)

    async def run(self, *arguments: object, code: int = 0, typed: str = "") -> Result:
        """Run a command, and check its exit code and that it printed no token."""
        return await self.run_with(self.options, *arguments, code=code, typed=typed)

    async def run_with(
        self,
        options: Sequence[str],
        *arguments: object,
        code: int = 0,
        typed: str = "",
        environment: Mapping[str, str] = NO_VARIABLES,
    ) -> Result:
        """Run a command with other options."""
        words = [*options, *map(str, arguments)]
        result = await to_thread.run_sync(partial(run_program, words, environment, typed))
        assert result.exit_code == code, f"{result.output}{result.exception!r}"
        assert not any(text in result.output for token in self.tokens for text in secrets_of(token))
        return result

    async def ask(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        """Run a command with `--json`, and return the document."""
        result = await self.run(*arguments, "--json", code=code)
        document: dict[str, Any] = json.loads(result.stdout)
        return document


def secrets_of(token: str) -> list[str]:
    """Return a token, and its digest as hexadecimal digits, in base64url and as Python shows bytes."""
    digest = tokens.digest(token)
    return [token, digest.hex(), urlsafe_b64encode(digest).decode().rstrip("="), repr(digest)]


@asynccontextmanager
async def opened(name: str, request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Place]:
    """Open the place of this name, and empty it."""
    backend = backend_of(name, request, path)
    await backend.empty()
    async with backend.serving() as open_app:
        yield Place(
            backend=backend, open_app=open_app, options=OPTIONS.get(name, options_of_database)(backend, request)
        )


def options_of_database(backend: Backend, _request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the options for a database."""
    return ["--database", backend.url, "--table", TABLE]


def options_of_redis(_backend: Backend, request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the options for Redis."""
    return ["--redis", request.getfixturevalue("redis_7_server").url()]


def options_of_cluster(_backend: Backend, request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the options for a cluster."""
    return ["--redis", request.getfixturevalue("redis_cluster_servers").url(), "--redis-cluster"]


OPTIONS = {"redis-7": options_of_redis, "redis-cluster": options_of_cluster}


def run_program(words: Sequence[str], environment: Mapping[str, str], typed: str = "") -> Result:
    """Run the program in this process, without the variables of the tests' own environment."""
    return CliRunner().invoke(program, words, input=typed, env=dict(environment))


def start_program(*words: str, errors: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start the program as a process, which Ctrl-C interrupts even if it is ignored by whatever started the tests."""
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{interruptible}; from fastapi_users_knox.cli import main; main()", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)
