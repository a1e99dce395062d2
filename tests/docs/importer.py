"""A program for the reader's environment that imports the reader's files and calls the applications in them.

Each line of the input names a folder, a module in it and the environment variables. A child process, in which the
libraries are already imported, imports the module. If the module has an application, Jane logs in by each of the
application's logins.
"""

import gc
import importlib
import json
import os
import sys
import warnings
from functools import partialmethod
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from pwdlib.hashers.argon2 import Argon2Hasher

# Imported once in the parent, because each child process would otherwise import them again.
LIBRARIES = (
    "anyio._backends._asyncio",
    "fastapi_users_knox.redis",
    "fastapi_users_knox.sqlalchemy.user_rows",
    "pydantic.v1",
    "sqlalchemy.dialects.sqlite.aiosqlite",
)
JANE = {"email": "jane@example.org", "password": "quite-a-good-one"}
LOGIN = {"username": JANE["email"], "password": JANE["password"]}
LOGINS = ("/auth/login", "/browser/login")
MISSING = {404, 405}


def call(app: FastAPI) -> None:
    """Start the application, log Jane in by each of its logins, and use the tokens."""
    with TestClient(app, base_url="https://testserver") as client:
        answers = [client.post(path, data=LOGIN) for path in LOGINS]
        if {answer.status_code for answer in answers} <= {400, *MISSING}:  # Jane is not registered, or has no login.
            client.post("/auth/register", json=JANE)
            answers = [client.post(path, data=LOGIN) for path in LOGINS]
        for answer in answers:
            if answer.status_code not in MISSING:
                use_token(client, answer)


def use_token(client: TestClient, login: Response) -> None:
    """Call the protected route, if there is one, with the token of a login."""
    assert login.status_code in {200, 204}, login.text
    client.cookies = login.cookies
    headers = {}
    if login.status_code == 200:
        answer = login.json()
        headers = {"Authorization": f"{answer['token_type'].title()} {answer['access_token']}"}
    greetings = [client.request(method, "/authenticated-route", headers=headers) for method in ("GET", "POST")]
    for greeting in greetings:
        if greeting.status_code not in MISSING:
            assert (greeting.status_code, "Hello jane@example.org!" in greeting.text) == (200, True), greeting.text


def work(folder: str, module: str, environment: dict[str, str]) -> None:
    """Import a module as the reader does, with deprecation warnings raised as errors."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    warnings.simplefilter("error", DeprecationWarning)
    app = getattr(importlib.import_module(module), "app", None)
    if isinstance(app, FastAPI):
        call(app)


def answer(request: dict[str, Any]) -> str:
    """Import the module in a child process, and return what it printed if it failed."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        work(**request)
        sys.exit()
    os.close(writing)
    with os.fdopen(reading) as output:
        printed = output.read()
    _, status = os.wait()
    return printed or "failed" if status else ""


def say(value: object) -> None:
    """Write a value as a line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def hash_fast() -> None:
    """Hash passwords with the smallest parameters, because the pages are not about the cost of a hash."""
    smallest = partialmethod(Argon2Hasher.__init__, time_cost=1, memory_cost=8, parallelism=1)
    setattr(Argon2Hasher, "__init__", smallest)  # noqa: B010 (type checkers refuse the assignment)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    hash_fast()
    gc.freeze()
    say(str(Path(importlib.import_module("fastapi_users_knox").__file__ or "").parent))
    for line in sys.stdin:
        say(answer(json.loads(line)))
