"""An empty folder for each test, in which the documented files can be imported by their names."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.docs.folder import SRC, TUTORIAL, calling, load, register


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to an empty folder, and make the documented files importable again by their names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for path in (SRC, TUTORIAL):
        monkeypatch.syspath_prepend(path)
    yield tmp_path
    for name in loaded_from(SRC) | loaded_from(tmp_path):
        del sys.modules[name]


def loaded_from(folder: Path) -> set[str]:
    """Return the names of the modules that were loaded from a folder."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return {name for name, file in files.items() if file and Path(file).is_relative_to(folder)}


@pytest.fixture
async def jane(folder: Path) -> AsyncIterator[str]:  # noqa: ARG001 (it makes the files importable)
    """Register Jane with the tutorial's application, and return her id. The test can then load another application."""
    async with calling(load("app").app) as client:
        user_id = await register(client)
    await load("db").engine.dispose()
    for name in loaded_from(SRC):
        del sys.modules[name]
    yield user_id
    await load("db").engine.dispose()
