"""Whoever follows the pages in an empty folder, with the package as it is installed, gets what they say."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.folder import DOCS
from tests.docs.reader import Reader, prepare, steps_of
from tests.redis_servers import RedisServer

# The other pages start from what a reader has at the end of the tutorial.
PAGES = (
    "sessions.md",
    "cookies.md",
    "accounts.md",
    "events.md",
    "knox.md",
    "security.md",
    "performance.md",
    "redis.md",
    "tenants.md",
)
APPLICATIONS = {"tenants.md": "db"}  # The rest of that application needs a PostgreSQL, as another test has it.
# What a command prints, where the page says it.
PRINTED = {
    "use_token.sh": r'\{"message":"Hello jane@example.org!"\}\{"detail":"Unauthorized"\}',
    "purge.sh": r"\d+ expired tokens deleted\n",
    "new_key.sh": r"\S{43}\n",
    "cookie_client.sh": r"(?s).*Hello jane@example.org!\n",
}
DONE = {"python", "diff", "sh"}

pytestmark = pytest.mark.unmeasured


def follow(reader: Reader, page: str) -> None:
    """Follow a page, and fail with the block that does not do what the page says."""
    for step in steps_of(page):
        wrong = reader.follow(step)
        assert not wrong, f"{page}, {step.section}, {step.name}: {wrong}"
        if step.name in PRINTED:
            assert re.fullmatch(PRINTED[step.name], reader.printed), f"{page}, {step.name}: {reader.printed}"
    reader.stop()


def test_no_page_is_left_out() -> None:
    """Each page with something to do is followed; the first page and the README show what the tutorial does."""
    pages = {page.name for page in DOCS.glob("*.md") if any(step.language in DONE for step in steps_of(page.name))}

    assert pages == {"index.md", "tutorial.md", *PAGES}


def test_the_pages_can_be_followed(tmp_path: Path, variables: Mapping[str, Mapping[str, str]]) -> None:
    """Every snippet of every page can be imported, every application logs Jane in, and every command runs."""
    (tmp_path / "reader").mkdir()
    reader = Reader(tmp_path / "reader", prepare(tmp_path))
    with ExitStack() as stack:
        stack.callback(reader.stop)
        follow(reader, "tutorial.md")
        assert reader.importer
        stack.callback(reader.importer.close)

        assert reader.is_complete
        assert reader.importer.package.is_relative_to(tmp_path)
        for page in PAGES:
            other = reader.again(tmp_path / page.removesuffix(".md"), **variables.get(page, {}))
            other.application = APPLICATIONS.get(page, "app")
            follow(other, page)


@pytest.fixture
def variables(redis_7_server: RedisServer) -> dict[str, dict[str, str]]:
    """Return the environment variables that a page needs, and that its reader's machine would have."""
    redis_7_server.ask("FLUSHALL")
    return {"redis.md": {"REDIS_URL": redis_7_server.url()}}
