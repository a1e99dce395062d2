"""The users of a Django application log in with their old passwords, and get new hashes."""

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from tests.docs.django_users import HASHERS, PASSWORD
from tests.docs.folder import calling, load

pytestmark = pytest.mark.unmeasured

ADD_COLUMN = "ALTER TABLE auth_user ADD COLUMN is_verified bool NOT NULL DEFAULT true"  # as on the page


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the database file of a Django application."""
    path = tmp_path_factory.mktemp("django") / "db.sqlite3"
    subprocess.run([sys.executable, "-m", "tests.docs.django_users", path], check=True)
    with sqlite3.connect(path) as connection:
        connection.execute(ADD_COLUMN)
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path, tables: bytes) -> Path:
    """Return a copy of the file."""
    path = tmp_path / "db.sqlite3"
    path.write_bytes(tables)
    return path


@pytest.fixture
async def client(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """Open a client of the documented application on that file."""
    module: Any = load("django_app")
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    monkeypatch.setattr(module, "engine", engine)
    monkeypatch.setattr(module, "async_session_maker", async_sessionmaker(engine, expire_on_commit=False))
    async with calling(module.app) as client:
        yield client
    await engine.dispose()


async def log_in(client: AsyncClient, name: str, password: str = PASSWORD) -> Response:
    """Log in by the e-mail address of a user."""
    return await client.post("/auth/login", data={"username": f"{name}@example.org", "password": password})


def hash_of(file: Path, name: str) -> str:
    """Return the stored hash of a user."""
    with sqlite3.connect(file) as connection:
        [(stored,)] = connection.execute("SELECT password FROM auth_user WHERE username = ?", (name,))
    return str(stored)


@pytest.mark.parametrize("algorithm", HASHERS)
async def test_a_password_of_django_is_right(client: AsyncClient, file: Path, algorithm: str) -> None:
    """A login verifies the hash of Django and replaces it by Argon2, and the next login verifies that one."""
    before = hash_of(file, algorithm)

    first = await log_in(client, algorithm)
    after = hash_of(file, algorithm)
    second = await log_in(client, algorithm)

    assert before.startswith(f"{algorithm}$")
    assert after.startswith("$argon2id$")
    assert [first.status_code, second.status_code] == [200, 200]
    headers = {"Authorization": f"Bearer {second.json()['access_token']}"}
    assert (await client.get("/authenticated-route", headers=headers)).json()["message"].startswith("Hello")


@pytest.mark.parametrize("name", [*HASHERS, "nobody"])
async def test_a_wrong_password_is_refused(client: AsyncClient, file: Path, name: str) -> None:
    """A wrong password is refused and changes no hash, and a user without a password cannot log in at all."""
    before = hash_of(file, name)

    answers = [await log_in(client, name, password) for password in (f"{PASSWORD}!", "!", before)]

    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert hash_of(file, name) == before


async def test_a_new_user_can_be_read_by_django(client: AsyncClient, file: Path) -> None:
    """A registration fills the columns that Django requires."""
    answer = await client.post("/auth/register", json={"email": "new@example.org", "password": PASSWORD})

    with sqlite3.connect(file) as connection:
        [row] = connection.execute(
            "SELECT length(username), first_name, is_staff FROM auth_user WHERE email LIKE 'new@%'"
        )
    assert (answer.status_code, row) == (201, (36, "", 0))
