"""A reader who follows the pages in an empty folder, with the installed package, gets the results that they show."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.folder import DOCS
from tests.docs.reader import Reader, prepare, steps_of
from tests.redis_servers import RedisServer

# These pages start from the files at the end of the tutorial.
PAGES = (
    "sessions.md",
    "admin.md",
    "api-tokens.md",
    "cookies.md",
    "login-options.md",
    "accounts.md",
    "throttling.md",
    "events.md",
    "alembic.md",
    "django.md",
    "knox.md",
    "security.md",
    "redis.md",
    "tenants.md",
    "cli.md",
)
APPLICATIONS = {"tenants.md": "db"}  # The rest needs PostgreSQL, see test_tenants.py.
# The output of commands, where the page shows it.
PRINTED = {
    "use_token.sh": r'\{"message":"Hello jane@example.org!"\}\{"detail":"Unauthorized"\}',
    "purge.sh": r"\d+ expired tokens deleted\n",
    "new_key.sh": r"\S{43}\n",
    "cookie_client.sh": r"(?s).*Hello jane@example.org!\n",
    "roll_api_token.sh": r'\{"id":"\S+?","name":"Nightly report",.*"token":"knox_pat_\w{51}"\}',
}
DONE = {"python", "diff", "sh"}

pytestmark = pytest.mark.unmeasured


def follow(reader: Reader, page: str) -> None:
    """Follow a page, and fail at the first block that does not give what the page shows."""
    for step in steps_of(page):
        wrong = reader.follow(step)
        assert not wrong, f"{page}, {step.section}, {step.name}: {wrong}"
        if step.name in PRINTED:
            assert re.fullmatch(PRINTED[step.name], reader.printed), f"{page}, {step.name}: {reader.printed}"
    reader.stop()


def test_no_page_is_left_out() -> None:
    """Every page with steps is followed; the first page and the README repeat the tutorial's."""
    pages = {page.name for page in DOCS.glob("*.md") if any(step.language in DONE for step in steps_of(page.name))}

    assert pages == {"index.md", "tutorial.md", *PAGES}


def test_the_pages_can_be_followed(tmp_path: Path, variables: Mapping[str, Mapping[str, str]]) -> None:
    """On every page each snippet can be imported, each application logs Jane in, and each command runs."""
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
    """Return the environment variables that a page's reader must have."""
    redis_7_server.ask("FLUSHALL")
    return {"redis.md": {"REDIS_URL": redis_7_server.url()}}
