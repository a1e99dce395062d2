"""The files, links, commands, names and errors that the README and the pages mention exist."""

import ast
import difflib
import inspect
import re
import shutil
import tomllib
from itertools import pairwise
from pathlib import Path

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import HTTPException

import fastapi_users_knox
import fastapi_users_knox.admin
import fastapi_users_knox.redis
import fastapi_users_knox.sqlalchemy
from fastapi_users_knox import (
    InsufficientScope,
    KnoxError,
    KnoxSettings,
    ReauthenticationRequired,
    TokenLimitReached,
    TooManyAttempts,
    throttling,
)
from fastapi_users_knox.errors import spell_challenge
from tests.docs.folder import DOCS, FENCE, INCLUDE, ROOT, SRC, TUTORIAL, apply

FILES = {path.relative_to(SRC).as_posix(): path for path in SRC.rglob("*") if path.is_file() and path.suffix != ".pyc"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
# The errors that cannot be made without arguments.
EXAMPLES: dict[str, KnoxError] = {
    "InsufficientScope": InsufficientScope({"reports:read"}),
    "ReauthenticationRequired": ReauthenticationRequired(
        spell_challenge(error="insufficient_user_authentication", max_age=600)
    ),
    "TokenLimitReached": TokenLimitReached(1),
    "TooManyAttempts": TooManyAttempts(retry_after=60, counter="account", limit="100 per 1 hour"),
}
SWAPPED = ("db.py", "users.py")


# the swap from JWTs


def after(folder: Path, *changes: str) -> dict[str, str]:
    """Apply changes to the application with JWTs and return its files."""
    for path in (SRC / "before").glob("*.py"):
        shutil.copy(path, folder)
    for change in changes:
        apply(change, folder)
    return {path.name: path.read_text() for path in folder.glob("*.py")}


def added(diff: str) -> list[str]:
    """Return the lines that a diff adds, without blank ones."""
    return re.findall(r"^\+(?!\+\+ ) *(\S.*)$", diff, re.MULTILINE)


def test_the_swap_is_short() -> None:
    """The swap adds at most 12 lines, imports and the table's class included, and is at most 100 characters wide."""
    for name in ("swap.diff", "swap_short.diff"):
        diff = (SRC / name).read_text()

        assert len(added(diff)) <= 12
        assert max(map(len, diff.splitlines())) <= 100


def test_the_short_form_of_the_swap_is_that_of_the_tutorial(folder: Path) -> None:
    """The README's diff has the same changed lines as the tutorial's, without context and line numbers."""
    swapped = after(folder, "swap.diff")

    assert (SRC / "swap_short.diff").read_text() == "\n".join(hunks_of(name, swapped[name]) for name in SWAPPED)


def hunks_of(name: str, changed: str) -> str:
    """Return the changes of a file by the swap, hunk by hunk."""
    before = (SRC / "before" / name).read_text().splitlines(keepends=True)
    lines = list(difflib.unified_diff(before, changed.splitlines(keepends=True), n=0))[2:]
    hunks = re.split(r"^@@.*\n", "".join(lines), flags=re.MULTILINE)[1:]
    stripped = [re.sub(r"\A(\+\n)+|(?<=\n)(\+\n)+\Z", "", hunk) for hunk in hunks]
    return "".join([f" # {name}\n", "\n".join(stripped)])


def test_the_steps_of_the_tutorial_lead_to_its_application(folder: Path) -> None:
    """Applying the tutorial's diffs to the application with JWTs gives the tutorial's final files."""
    changed = after(folder, "swap.diff", "routes.diff", "settings.diff", "user_manager.diff")

    new = {"schemas.py", "settings.py"}
    assert changed == {path.name: path.read_text() for path in TUTORIAL.glob("*.py") if path.name not in new}


def test_every_change_applies_to_the_tutorial(folder: Path) -> None:
    """Each diff of the other pages applies to the tutorial's final files."""
    steps = {"swap.diff", "swap_short.diff", "routes.diff", "settings.diff", "user_manager.diff"}
    for change in {name for name in FILES if name.endswith(".diff")} - steps:
        for path in TUTORIAL.glob("*.py"):
            shutil.copy(path, folder)

        apply(change, folder)


# the README


def test_the_readme_is_short_and_shows_what_is_tested() -> None:
    """The README has at most 100 lines, and each of its code blocks is a tested file."""
    readme = (ROOT / "README.md").read_text()

    blocks = [block for _, _, block in FENCE.findall(readme)]

    assert len(readme.splitlines()) <= 100
    assert len(blocks) == 3
    assert set(blocks) <= {path.read_text() for path in FILES.values()}


def test_the_readme_links_to_what_is_there() -> None:
    """The README's links are absolute, and links to the repository lead to an existing file."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    own = [link.removeprefix(f"{REPOSITORY}/") for link in links if link.startswith(f"{REPOSITORY}/")]

    assert [link for link in links if not link.startswith("https://")] == []
    assert own
    for link in own:
        kind, branch, path = link.split("/", 2)
        assert (kind, branch) == ("tree" if (ROOT / path).is_dir() else "blob", "main")
        assert (ROOT / path).exists(), path


def test_the_project_names_where_it_is() -> None:
    """The project's URLs lead to the repository."""
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= set(PROJECT["urls"])
    assert all(url.startswith(REPOSITORY) for url in PROJECT["urls"].values())


def test_the_commands_exist() -> None:
    """The documented make targets, extras and repository exist."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    tried = [line.removeprefix("make ") for line in (SRC / "try.sh").read_text().splitlines()]
    texts = [path.read_text() for path in SRC.glob("install*.sh")]
    installed = [re.findall(r'^pip install "\./([\w-]+)\[(\w+)\]"', text, re.MULTILINE) for text in texts]

    assert tried
    assert set(tried) <= set(targets)
    extras = ("admin", "cli", "redis", "sqlalchemy", "throttle")
    assert sorted(installed) == [[(PROJECT["name"], extra)] for extra in extras]
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert f"git clone {REPOSITORY}\n" in (SRC / "install.sh").read_text()


# the pages


def test_pages_include_every_file_and_have_no_code_of_their_own() -> None:
    """Every code block of a page is an included file, and every file is included."""
    included = set()
    for page in DOCS.rglob("*.md"):
        for _, language, block in FENCE.findall(page.read_text()):
            names = INCLUDE.fullmatch(block)
            assert names or language == "text", f"{page}: {block}"
            included |= {*(names.groups() if names else ())}

    assert included | {"try.sh"} == set(FILES)


def test_pages_name_the_file_of_each_piece_of_python() -> None:
    """Every Python block shows the name of its file."""
    languages = [language for page in DOCS.rglob("*.md") for _, language, _ in FENCE.findall(page.read_text())]

    assert [
        text for text in languages if "python" in text and not re.fullmatch(r'\{\.python title="\w+\.py"\}', text)
    ] == []


def test_no_page_needs_the_repository() -> None:
    """No file on a page imports the example application, which is not in the wheel."""
    assert [name for name, path in FILES.items() if "example_app" in path.read_text()] == []


def test_the_reference_has_every_public_name() -> None:
    """The reference documents exactly the public names."""
    pages = "".join(page.read_text() for page in (DOCS / "reference").iterdir())
    documented = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))

    exported = {
        f"{package.__name__}.{name}"
        for package in (
            fastapi_users_knox,
            fastapi_users_knox.admin,
            fastapi_users_knox.redis,
            fastapi_users_knox.sqlalchemy,
            throttling,
        )
        for name in package.__all__
    }
    assert documented == exported


def test_the_errors_are_answered_as_the_table_says() -> None:
    """The table of errors lists every error with its status, headers and detail."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*)\|", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)
    errors = {error.__name__: error for error in KnoxError.__subclasses__()}

    assert {name for name, *_ in rows} == set(errors)
    for name, answer, detail in rows:
        error = EXAMPLES[name] if name in EXAMPLES else errors[name]()
        if isinstance(error, HTTPException):
            headers = "".join(f", `{header}: {value}`" for header, value in (error.headers or {}).items())
            assert (answer, detail.strip()) == (f"{error.status_code}{headers}", f"`{jsonable_encoder(error.detail)}`")


def test_every_setting_of_knox_has_its_row() -> None:
    """The table of django-rest-knox's settings agrees with the descriptions of this package's settings."""
    table = (DOCS / "knox.md").read_text()
    rows = {(ours, theirs) for theirs, ours in re.findall(r"^\| `(\w+)` \| [^|]+ \| `(\w+)`", table, re.MULTILINE)}

    body = ast.parse(inspect.getsource(KnoxSettings)).body[0]
    assert isinstance(body, ast.ClassDef)
    described = {
        (setting.target.id, theirs)
        for setting, text in pairwise(body.body)
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name)
        for theirs in re.findall(r"`([A-Z_]{5,})`", ast.unparse(text))
    }

    assert len(described) > 5
    assert described <= rows
