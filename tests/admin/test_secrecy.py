"""No page of the administration contains a digest, in whatever form."""

import base64
import re
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.admin.site import Browser, Device, UserAdmin, change_session, create_app
from tests.admin.site import SessionAdmin as Sessions
from tests.models import KnoxToken, User
from tests.site import PASSWORD, client_of
from tests.strategies import sent_to, stored
from tests.throttling.site import ThrottledWorld

IDENTITY = "/admin/knox-token"
LINK = re.compile(r'(?:href|action|data-url|src)="(?:https://test)?(/admin/[^"#]*)"')


class Careless(Sessions, model=KnoxToken):
    """A view of an application that lists the digest everywhere, and allows what this package does not."""

    can_create = can_edit = can_export = can_import = True
    column_list: ClassVar[str] = "__all__"
    column_details_list: ClassVar[str] = "__all__"
    column_export_list: ClassVar[list[Any]] = ["digest", "name", "data"]
    column_import_list: ClassVar[list[Any]] = ["digest", "name"]
    form_columns: ClassVar[list[str]] = ["digest", "name"]


def forms_of(digest: bytes) -> Iterator[str]:
    """Yield the forms in which a page could contain a digest."""
    yield from (digest.hex(), digest.hex().upper(), repr(digest)[2:-1], str(list(digest))[1:-1])
    yield from (base64.b64encode(digest).decode().rstrip("="), base64.urlsafe_b64encode(digest).decode().rstrip("="))
    yield from (digest.decode("latin-1"), str(int.from_bytes(digest)))


async def crawl(browser: Browser, *paths: str) -> dict[str, str]:
    """Open these pages and all that they link to, and return the texts by their paths."""
    seen: dict[str, str] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop().replace("&amp;", "&")
        if path in seen or path == "/admin/logout" or "/statics/" in path or path.count("=") > 2:
            continue  # Combinations of filters show the same rows.
        response = await browser.get(path)
        assert response.status_code < 500, path
        seen[path] = response.text
        waiting += LINK.findall(response.text)
    return seen


def other_pages(session: uuid.UUID) -> list[str]:
    """Return the pages to which no page links."""
    return [
        *(f"{IDENTITY}/{page}" for page in ("create", f"edit/{session}", "export/csv", "export/json")),
        *(f"{IDENTITY}/list?{query}" for query in ("sortBy=digest", "digest=1", "page=2", "pageSize=100")),
        *(f"{IDENTITY}/{session}/{name}/{kind}/" for name in ("digest", "name") for kind in ("preview", "download")),
        f"{IDENTITY}/ajax/lookup?name=digest&term=a",
    ]


@pytest.mark.parametrize("view", [Sessions, Careless])
@pytest.mark.usefixtures("laptop", "phone")
async def test_no_page_contains_a_digest(
    world: ThrottledWorld, root: User, engine: AsyncEngine, view: type[Sessions]
) -> None:
    """No digest, token or data appears on any page, form, export or error page, even if an application lists them."""
    await change_session(engine, "laptop", data={"note": "for the application alone"})
    async with client_of(world.serving(create_app(engine, views=[view, UserAdmin]))) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        rows = await stored(engine)
        with sent_to(engine) as statements:
            pages = await crawl(browser, "/admin/", *other_pages(rows[0].id))

    assert len(pages) > 30
    assert len(rows) == 3
    secrets = [form for row in rows for form in forms_of(row.digest)]
    secrets += [*browser.http.cookies.values(), "for the application alone"]
    assert [(path, secret) for path, text in pages.items() for secret in secrets if secret in text] == []
    # The columns of a SELECT for the pages; the strategy's own SELECTs find a token by its digest.
    shown = [statement for statement in statements if "ORDER BY" in statement and "count" not in statement]
    assert shown
    assert [statement for statement in shown if "digest" in statement.partition("FROM")[0]] == []


@pytest.mark.usefixtures("laptop")
async def test_a_digest_is_not_searched_for(browser: Browser, engine: AsyncEngine) -> None:
    """A search for a digest, or for a part of it, finds nothing."""
    rows = await stored(engine)

    for row in rows:
        for form in forms_of(row.digest):
            for term in (form, form[:8]):
                assert await browser.rows_found(term) == [], term


async def test_pages_that_would_change_a_session_are_refused(
    browser: Browser, laptop: Device, engine: AsyncEngine
) -> None:
    """Sessions can neither be created, changed, imported nor exported."""
    [session, _] = await stored(engine)
    paths = [("GET", "create"), ("POST", "create"), ("GET", f"edit/{session.id}"), ("POST", f"edit/{session.id}")]
    paths += [("GET", "export/csv"), ("GET", "export/json"), ("POST", "import"), ("GET", "ajax/lookup?name=a&term=a")]

    responses = [await browser.http.request(method, f"{IDENTITY}/{path}") for method, path in paths]

    assert [response.status_code for response in responses] == [403] * len(paths)
    assert await laptop.is_logged_in()


@pytest.mark.parametrize("kind", ["preview", "download"])
async def test_no_file_is_served(browser: Browser, laptop: Device, engine: AsyncEngine, kind: str) -> None:
    """Sqladmin's routes for files serve none, although a device may choose the path of a file as its name."""
    await laptop.http.post(
        "/knox/login",
        data={"username": "ada@example.org", "password": PASSWORD},
        headers={"X-Device-Name": "pyproject.toml"},
    )
    session = next(row for row in await stored(engine) if row.name == "pyproject.toml")

    response = await browser.get(f"{IDENTITY}/{session.id}/name/{kind}/")

    assert response.status_code == 404
    assert "fastapi-users-knox" not in response.text
