"""The folder of a reader who has followed the tutorial, and what the pages put into it."""

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
# A page says `{.python}`, as ruff would format what stands in a block of `python`, the marks of inclusion too.
FENCE = re.compile(r"^( *)``` ?(\S+|\{[^}]+\})\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r' *--8<-- "(.+)"\n')
ORIGIN = "https://example.org"  # over HTTPS, as cookies are secure
JANE = {"email": "jane@example.org", "password": "quite-a-good-one"}
LOGIN = {"username": JANE["email"], "password": JANE["password"]}


def load(name: str) -> Any:
    """Import a documented file, or a file of the tutorial, by the name that it has in the reader's folder."""
    return importlib.import_module(name)


def changed_by(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Apply a documented change to the tutorial's files, so that they are loaded as changed."""
    for path in TUTORIAL.glob("*.py"):
        shutil.copy(path, folder)
    apply(name, folder)
    patch.syspath_prepend(folder)


def apply(name: str, folder: Path) -> None:
    """Apply a documented change to the files of a folder."""
    subprocess.run(["git", "apply", "--unidiff-zero", "-p0", SRC / name], cwd=folder, check=True)


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Start a documented application, and call it."""
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url=ORIGIN) as client,
    ):
        yield client


async def register(client: AsyncClient) -> str:
    """Register Jane, and return her id."""
    answer = await client.post("/auth/register", json=JANE)
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def log_in(client: AsyncClient, password: str = JANE["password"], **headers: str) -> dict[str, str]:
    """Log Jane in, and return the header to send."""
    answer = await client.post("/auth/login", data={**LOGIN, "password": password}, headers=headers)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def knock(client: AsyncClient, *headers: Mapping[str, str]) -> list[int]:
    """Call the protected route with each header, and return the answers' status."""
    return [(await client.get("/authenticated-route", headers=each)).status_code for each in headers]
