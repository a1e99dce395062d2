"""The architecture: imports point downwards, public names are listed, and the explanation page is correct."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastapi_users_knox

pytestmark = pytest.mark.unmeasured

PACKAGE = Path(fastapi_users_knox.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From top to bottom. A module imports only from layers below its own, and from its own directory.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__",),
    ("admin", "cli"),
    ("routers",),
    ("manager",),
    ("strategy",),
    ("verbs",),
    ("users",),
    ("transports",),
    ("sqlalchemy", "redis", "testing", "throttling"),
    ("store", "settings", "events"),
    ("records",),
    ("errors",),
    ("tokens", "shielding", "addresses", "attempts"),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
ABOVE_THE_CORE = {"__init__", "admin", "cli", "routers", "manager", "strategy", "verbs", "users", "transports"}


def name_of(path: Path) -> str:
    """Return a module's path within the package."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the name of a module's part: its directory, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of everything that a module imports, anywhere in its code."""
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
    """Return the top-level modules that importing `statement` loads in addition to `beside`, in a new process."""
    script = f"{beside}\nimport sys\nusual = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - usual))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    """A module imports only from the layers below its own, and from its own directory."""
    part = part_of(path)

    above = [
        name
        for name in imported(path)
        if name.startswith("fastapi_users_knox.")
        and (other := name.split(".")[1]) != part
        and not LEVELS.get(other, LEVELS["tokens"]) > LEVELS[part]
    ]

    assert above == []
    assert part == "cli" or not any(name.startswith("fastapi_users_knox.cli") for name in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_extras_are_imported_by_their_own_part(path: Path) -> None:
    """Each extra is imported only by its own part; SQLAlchemy also by the admin pages and by one adapter."""
    tops = {name.partition(".")[0] for name in imported(path)}

    assert "redis" not in tops or part_of(path) == "redis"
    assert "limits" not in tops or part_of(path) == "throttling"
    assert not tops & {"typer", "rich"} or part_of(path) == "cli"
    assert "sqladmin" not in tops or part_of(path) == "admin"
    assert (
        "sqlalchemy" not in tops or part_of(path) in {"admin", "sqlalchemy"} or name_of(path) == "users/sqlalchemy.py"
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_core_does_not_depend_on_fastapi_users(path: Path) -> None:
    """Only the upper layers import FastAPI-Users, and one module alone its SQLAlchemy adapter."""
    tops = {name.partition(".")[0] for name in imported(path)}

    assert "fastapi_users" not in tops or part_of(path) in ABOVE_THE_CORE
    assert "fastapi_users_db_sqlalchemy" not in tops or name_of(path) == "users/sqlalchemy.py"


@pytest.mark.unmeasured
def test_the_package_needs_no_extra() -> None:
    """Importing the package loads no database client that FastAPI-Users does not load itself."""
    ours = modules_brought_by("import fastapi_users_knox", beside="import fastapi_users.authentication")

    assert "fastapi_users_knox" in ours
    extras = {"sqlalchemy", "sqladmin", "redis", "limits", "typer", "rich"}
    assert not ours & {*extras, "fastapi_users_db_sqlalchemy", "pytest"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_listed(path: Path) -> None:
    """Each module lists its existing public names in a sorted `__all__`, constants first."""
    names: list[str] = module(path).__all__

    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name))
    assert all(hasattr(module(path), name) for name in names)


def test_modules_are_short() -> None:
    """A module has at most 250 lines, except the strategy, whose methods do little and are fully documented."""
    long = {name_of(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 250}

    assert long == {"strategy.py"}


def test_the_package_is_typed() -> None:
    """The package has the marker for type checkers (PEP 561)."""
    assert (PACKAGE / "py.typed").is_file()


STEP = re.compile(r"^\| (?P<step>[^|]+) \| `(?P<path>[a-z_/]+\.py)` \| `(?P<function>[\w.]+)` \|$", re.MULTILINE)
WALK = [match.groupdict() for match in STEP.finditer((ROOT / "docs" / "explanation.md").read_text(encoding="utf-8"))]
MAP = re.findall(r"^\| [^|]+\? \| (?P<places>.+) \|$", (ROOT / "docs" / "explanation.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("step", WALK, ids=lambda step: f"{step['path']}:{step['function']}")
def test_each_step_of_the_walk_is_where_the_page_says(step: dict[str, str]) -> None:
    """Each function in the tables of the explanation page exists in the module that the table names."""
    found: object = module(PACKAGE / step["path"])
    for name in step["function"].split("."):
        found = getattr(found, name)

    assert callable(found)


def test_the_walk_has_a_login_a_refresh_and_a_logout() -> None:
    """The tables of the explanation page cover every module of the verbs, and both stores."""
    seen = {step["path"] for step in WALK}

    assert {"verbs/issuing.py", "verbs/reading.py", "verbs/revoking.py"} < seen
    assert {"sqlalchemy/store.py", "redis/store.py"} < seen


def test_the_map_shows_each_folder() -> None:
    """The map on the explanation page names each top-level folder and module of the package."""
    shown = {
        place.strip("/").split("/")[0] for places in MAP for place in re.findall(r"`([a-z_/]+(?:\.py|/))`", places)
    }

    assert shown | {"__init__.py"} == {
        path.name for path in PACKAGE.iterdir() if path.name not in {"__pycache__", "py.typed"}
    }
