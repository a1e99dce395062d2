"""The folder of a reader who has followed the tutorial, and the changes to it that the other pages describe."""

import importlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SRC = DOCS / "src"
TUTORIAL = SRC / "tutorial"
# Pages use `{.python}`, because ruff would format the include marks in a block of `python`.
FENCE = re.compile(r"^( *)``` ?(\S+|\{[^}]+\})\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r' *--8<-- "(.+)"\n')
ORIGIN = "https://example.org"  # HTTPS, because the cookies are secure
JANE = {"email": "jane@example.org", "password": "quite-a-good-one"}
LOGIN = {"username": JANE["email"], "password": JANE["password"]}


def load(name: str) -> Any:
    """Import a documented file by the name that it has in the reader's folder."""
    return importlib.import_module(name)


def changed_by(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Copy the tutorial's files to a folder, apply a documented change, and make them importable."""
    for path in TUTORIAL.glob("*.py"):
        shutil.copy(path, folder)
    apply(name, folder)
    patch.syspath_prepend(folder)


def apply(name: str, folder: Path) -> None:
    """Apply a documented change to the files of a folder."""
    subprocess.run(["git", "apply", "--unidiff-zero", "-p0", SRC / name], cwd=folder, check=True)


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Start a documented application, and open a client of it."""
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url=ORIGIN) as client,
    ):
        yield client


async def register(client: AsyncClient) -> str:
    """Register Jane and return her id."""
    answer = await client.post("/auth/register", json=JANE)
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def log_in(client: AsyncClient, password: str = JANE["password"], **headers: str) -> dict[str, str]:
    """Log Jane in and return the Authorization header."""
    answer = await client.post("/auth/login", data={**LOGIN, "password": password}, headers=headers)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def statuses(client: AsyncClient, *headers: Mapping[str, str]) -> list[int]:
    """Call the protected route with each header and return the statuses."""
    return [(await client.get("/authenticated-route", headers=each)).status_code for each in headers]
