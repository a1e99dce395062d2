"""Import a reader's files, and call the applications in them: a program for the reader's environment.

Each line of the input names a folder, a module in it and the environment variables. A child process, which has the
libraries already, imports it; if it has an application, Jane logs in by every login that it has.
"""

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import aiosqlite
import fastapi_users_db_sqlalchemy
import sqlalchemy.ext.asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

import fastapi_users_knox.redis
import fastapi_users_knox.sqlalchemy

LIBRARIES = (aiosqlite, fastapi_users_db_sqlalchemy, sqlalchemy.ext.asyncio, fastapi_users_knox.redis)
JANE = {"email": "jane@example.org", "password": "quite-a-good-one"}


def call(app: FastAPI) -> None:
    """Start the application, register Jane unless she is there, log her in by each login, and use the token."""
    methods = {route.path: min(route.methods) for route in app.routes if isinstance(route, APIRoute)}
    with TestClient(app, base_url="https://testserver") as client:
        if "/auth/register" in methods:
            registered = client.post("/auth/register", json=JANE)
            assert registered.status_code in {201, 400}, registered.text
        for path in methods:
            if path.endswith("/login"):
                log_in(client, path, methods.get("/authenticated-route"))


def log_in(client: TestClient, path: str, method: str | None) -> None:
    """Log Jane in, and use the token, by header or by cookie, on the route that takes it."""
    client.cookies.clear()
    login = client.post(path, data={"username": JANE["email"], "password": JANE["password"]})
    assert login.status_code in {200, 204}, login.text
    headers = {}
    if login.status_code == 200:
        answer = login.json()
        headers = {"Authorization": f"{answer['token_type'].title()} {answer['access_token']}"}
    if method:
        greeted = client.request(method, "/authenticated-route", headers=headers)
        assert (greeted.status_code, "Hello jane@example.org!" in greeted.text) == (200, True), greeted.text


def work(folder: str, module: str, environment: dict[str, str]) -> None:
    """Import a module as the reader does, with all warnings shown as errors."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    warnings.simplefilter("error", DeprecationWarning)
    app = getattr(importlib.import_module(module), "app", None)
    if isinstance(app, FastAPI):
        call(app)


def answer(request: dict[str, Any]) -> str:
    """Do the work in a child process, and return what has gone wrong."""
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
    """Write a line of output."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(str(Path(fastapi_users_knox.__file__).parent))
    for line in sys.stdin:
        say(answer(json.loads(line)))
