"""The layout: imports point one way, and what is public is listed."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastapi_users_knox

PACKAGE = Path(fastapi_users_knox.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From above to below. A module imports from layers below its own, never from its own but within one directory.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__",),
    ("router", "administration"),
    ("manager", "dependencies", "schemas"),
    ("changes",),
    ("revocation",),
    ("backends",),
    ("strategy",),
    ("users",),
    ("cookie", "audit"),
    ("transport", "middleware", "origins", "cookie_rules"),
    ("presented",),
    ("settings", "events", "sqlalchemy", "redis", "testing"),
    ("store",),
    ("challenges",),
    ("errors",),
    ("tokens", "shielding"),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

LONG = {
    "strategy.py": "one class: every verb that a developer calls, each with its docstring",
    "settings.py": "every setting beside its rule and its docstring, which the reference shows",
    "events.py": "every event beside what it means",
    "changes.py": "one act: what is found out before a change, in it and after it, side by side",
    "store.py": "the contract: most of it is docstrings",
    "testing.py": "the contract's tests, which other people's stores subclass in one piece",
    "sqlalchemy/store.py": "the eight verbs, side by side to be compared",
    "redis/store.py": "the eight verbs, side by side to be compared",
    "sqlalchemy/user_rows.py": "one class: what is stored of a user, and how the session that stores it is handled",
    "sqlalchemy/transactions.py": "one class: every way in which a verb gets at the database",
}


def name_of(path: Path) -> str:
    """Return a module's path within the package."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the layer's name that a module belongs to: its own, or its directory's."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Find what a module imports, by full names, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module(path: Path) -> ModuleType:
    """Import a module by its path."""
    dotted = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    return importlib.import_module(dotted.removesuffix(".__init__"))


def modules_brought_by(statement: str, *, beside: str) -> set[str]:
    """Run two imports in a new process, and return the top names of what the first brings that the second does not."""
    script = f"{beside}\nimport sys\nusual = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - usual))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    """A module imports from the layers below, and from its own directory."""
    part = part_of(path)

    above = [
        name
        for name in imported(path)
        if name.startswith("fastapi_users_knox.")
        and (other := name.split(".")[1]) != part
        and not LEVELS.get(other, LEVELS["tokens"]) > LEVELS[part]
    ]

    assert above == []


@pytest.mark.parametrize(("extra", "parts"), [("sqlalchemy", {"sqlalchemy"}), ("redis", {"redis"})])
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_extras_are_imported_by_their_own_part(path: Path, extra: str, parts: set[str]) -> None:
    """Only the SQL store imports SQLAlchemy, and only the Redis store imports redis."""
    own = {extra, f"fastapi_users_{extra}", f"fastapi_users_db_{extra}"}

    tops = {name.partition(".")[0] for name in imported(path)}

    assert part_of(path) in parts or not tops & own


@pytest.mark.unmeasured
def test_the_package_needs_no_extra() -> None:
    """Importing it imports no database client that FastAPI-Users itself does not import."""
    ours = modules_brought_by("import fastapi_users_knox", beside="import fastapi_users.authentication")

    assert "fastapi_users_knox" in ours
    assert not ours & {"sqlalchemy", "redis", "fastapi_users_db_sqlalchemy", "pytest"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_listed(path: Path) -> None:
    """Each module lists its public names, sorted, and each of them exists."""
    names: list[str] = module(path).__all__

    assert names == sorted(set(names))
    assert all(hasattr(module(path), name) for name in names)


def test_modules_are_short() -> None:
    """A module has at most 200 lines, or its reason stands here."""
    long = {name_of(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 200}

    assert long == set(LONG)
    assert all(LONG.values())


def test_the_package_is_typed() -> None:
    """Type checkers look into it (PEP 561)."""
    assert (PACKAGE / "py.typed").is_file()
