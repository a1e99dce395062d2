"""A folder for each test, in which the documented files are found by their names."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.docs.folder import SRC, TUTORIAL, calling, load, register


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, where the tutorial's files and those of the pages can be imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for path in (SRC, TUTORIAL):
        monkeypatch.syspath_prepend(path)
    yield tmp_path
    for name in loaded_from(SRC) | loaded_from(tmp_path):
        del sys.modules[name]


def loaded_from(folder: Path) -> set[str]:
    """Name the modules of which the files are in a folder or below it."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return {name for name, file in files.items() if file and Path(file).is_relative_to(folder)}


@pytest.fixture
async def jane(folder: Path) -> AsyncIterator[str]:  # noqa: ARG001 (it says where the files are)
    """Register Jane with the tutorial's application, and return her id; a page extends the application anew."""
    async with calling(load("app").app) as client:
        user_id = await register(client)
    await load("db").engine.dispose()
    for name in loaded_from(SRC):
        del sys.modules[name]
    yield user_id
    await load("db").engine.dispose()
