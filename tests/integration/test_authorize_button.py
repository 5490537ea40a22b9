"""The Authorize button of /docs, in a browser, with the files that Swagger UI consists of."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from revokebus.testing import AppServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

PROGRAM = (Path(__file__).parents[2] / "docs" / "quick-start.md").read_text()
# FastAPI's own page takes these files from another host.
OF_OUR_OWN = """
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

app.mount("/swagger", StaticFiles(directory=swagger_ui_path))


@app.get("/try", include_in_schema=False)
async def try_it():
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Try it",
        swagger_js_url="/swagger/swagger-ui-bundle.js",
        swagger_css_url="/swagger/swagger-ui.css",
        swagger_favicon_url="/swagger/favicon-32x32.png",
    )
"""


@pytest.fixture
def page(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    program = re.findall(r"^```python\n(.*?)^```$", PROGRAM, re.MULTILINE | re.DOTALL)[0]
    # The bundle knows OpenAPI up to 3.0, and what is asked here is the same in both.
    program = program.replace("app = FastAPI()", "app = FastAPI()\napp.openapi_version = '3.0.2'")
    (tmp_path / "tried.py").write_text(program + OF_OUR_OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = {
        "REVOKEBUS_REDIS_URL": "memory://",
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
    }
    with AppServer("tried:app", settings) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/try")
        yield page
        page.close()


def test_the_quick_start_can_be_tried_in_the_browser(page: Page) -> None:
    """A newcomer would press Authorize, and be asked for a token to paste."""
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".dialog-ux .modal-ux-content")
    dialog.locator("input[name=username], #oauth_username").first.fill("alice")
    dialog.locator("input[name=password], #oauth_password").first.fill("wonderland")
    dialog.get_by_role("button", name=re.compile("Authorize|Apply")).first.click()
    expect(dialog).to_contain_text("Authorized", timeout=10_000)
    dialog.get_by_role("button", name="Close").first.click()
    route = page.locator("#operations-default-items_items_get")
    route.locator(".opblock-summary").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    expect(route).to_contain_text("an item of alice", timeout=10_000)
