"""Tokens in cookies, in a real browser: what it keeps, sends, and refuses to take."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from revokebus.testing import AppServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

# The access token in the page, the refresh token in a cookie with a path of its own.
SPA = """
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.responses import HTMLResponse

from revokebus import AccessToken, EndingSession, IssuedAccess, RefreshToken, RevokeBus
from revokebus import require_access, require_logout, require_refresh, require_same_origin

app = FastAPI()
bus = RevokeBus.attach(app)


@app.post("/login", dependencies=[Depends(require_same_origin())])
async def login(response: Response) -> IssuedAccess:
    pair = bus.issue("alice")
    bus.set_cookies(response, pair)
    return pair.access


@app.post("/session/refresh")
async def refresh(
    token: Annotated[RefreshToken, Depends(require_refresh())], response: Response
) -> IssuedAccess:
    pair = await bus.rotate(token)
    bus.set_cookies(response, pair)
    return pair.access


@app.post("/session/logout")
async def logout(
    session: Annotated[EndingSession, Depends(require_logout())], response: Response
) -> None:
    await bus.revoke_session(session)
    bus.clear_cookies(response)


@app.get("/me")
async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    return token.subject


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return "<!doctype html><title>a page</title>"
"""
CALL = """async ([path, token]) => {
  const csrf = (document.cookie.match(/(?:^|; )__Host-csrf_token=([^;]*)/) || [])[1] || "";
  const headers = {"X-CSRF-Token": csrf};
  if (token) headers["Authorization"] = `Bearer ${token}`;
  const method = path === "/me" ? "GET" : "POST";
  const answer = await fetch(path, {method, headers});
  return [answer.status, await answer.json()];
}"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def settings(**more: str) -> dict[str, str]:
    return {
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": "memory://",
        **more,
    }


def at_localhost(server: AppServer) -> str:
    # The one host for which a browser takes Secure cookies without TLS.
    return server.url.replace("127.0.0.1", "localhost")


def names(context: BrowserContext) -> set[str]:
    return {each["name"] for each in context.cookies()}


def test_the_example_in_a_browser(context: BrowserContext) -> None:
    """A browser would drop the cookies, and the example's page never be signed in."""
    with AppServer("examples.browser_cookies:app", settings()) as server:
        page = context.new_page()
        page.goto(at_localhost(server))
        page.fill("#login input[name=password]", "wonderland")
        page.click("#login button")
        expect(page.locator("#said")).to_contain_text("POST /login: 200", timeout=10_000)
        assert names(context) == {
            "__Host-access_token",
            "__Host-csrf_token",
            "__Secure-refresh_token",
        }
        readable: str = page.evaluate("document.cookie")
        assert "csrf_token" in readable
        assert "access_token" not in readable
        assert "refresh_token" not in readable
        page.fill("#note input", "hello")
        page.click("#note button")
        expect(page.locator("#said")).to_contain_text("PUT /note: 200", timeout=10_000)
        page.click("#logout")
        expect(page.locator("#said")).to_contain_text("POST /logout: 200", timeout=10_000)
        assert names(context) == set()
        page.click("#note button")
        expect(page.locator("#said")).to_contain_text("PUT /note: 401", timeout=10_000)


@pytest.fixture
def spa(
    context: BrowserContext, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Page, AppServer]]:
    (tmp_path / "spa.py").write_text(SPA)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    more = {
        "REVOKEBUS_REFRESH_SOURCES": "cookie",
        "REVOKEBUS_COOKIES__REFRESH_PATH": "/session",
        "REVOKEBUS_ACCESS_TTL": "1",
        "REVOKEBUS_LEEWAY": "0",
    }
    with AppServer("spa:app", settings(**more)) as server:
        page = context.new_page()
        page.goto(at_localhost(server))
        yield page, server


def test_a_page_in_one_document(spa: tuple[Page, AppServer], context: BrowserContext) -> None:
    """After a reload its user would have to sign in again, or could not sign out."""
    page, _ = spa
    status, told = page.evaluate(CALL, ["/login", ""])
    assert status == 200
    assert "refresh_token" not in told
    assert names(context) == {"__Secure-refresh_token", "__Host-csrf_token"}
    assert page.evaluate(CALL, ["/me", told["access_token"]]) == [200, "alice"]
    page.reload()  # the access token has gone with the document
    assert page.evaluate(CALL, ["/me", ""])[0] == 401
    status, told = page.evaluate(CALL, ["/session/refresh", ""])
    assert status == 200
    assert page.evaluate(CALL, ["/me", told["access_token"]]) == [200, "alice"]
    page.wait_for_function(
        """async (token) => (await fetch("/me",
          {headers: {Authorization: `Bearer ${token}`}})).status === 401""",
        arg=told["access_token"],
    )  # it has expired, and the session can still be ended
    assert page.evaluate(CALL, ["/session/logout", ""])[0] == 200
    assert names(context) == set()
    assert page.evaluate(CALL, ["/session/refresh", ""])[0] == 401


def test_another_site_gets_nowhere(spa: tuple[Page, AppServer], context: BrowserContext) -> None:
    """Its form could sign a visitor in, out, or refresh for them."""
    page, server = spa
    page.evaluate(CALL, ["/login", ""])
    with AppServer("examples.memory_app:app", settings()) as evil:
        other = context.new_page()
        other.goto(f"{evil.url}/docs")  # 127.0.0.1 is another site than localhost
        for path, status in (("/login", 403), ("/session/refresh", 401), ("/session/logout", 401)):
            with other.expect_navigation() as sent:
                other.evaluate(
                    """(url) => {
                      const form = document.createElement("form");
                      form.method = "POST"; form.action = url;
                      document.body.append(form); form.submit();
                    }""",
                    f"{at_localhost(server)}{path}",
                )
            assert sent.value is not None
            assert sent.value.status in (status, 403)
            other.goto(f"{evil.url}/docs")
    status, _ = page.evaluate(CALL, ["/session/refresh", ""])
    assert status == 200
