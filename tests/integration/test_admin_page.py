"""The admin page: its routes, and itself in a real browser, in front of three instances."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from revokebus import RevokeBus, admin_page, require_access
from revokebus.testing import AppServer, RedisServer, serving
from tests.support import SECRET, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.support import MakeSettings

STATIC = Path(__file__).parents[2] / "revokebus" / "web" / "admin"
KEY = "the-key-of-the-demonstration"
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def client(make_settings: MakeSettings) -> Iterator[TestClient]:
    """An application whose operators have a token in a cookie."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings(token_sources="header,cookie"))
    guard = require_access("operator", sources=["cookie"])
    app.include_router(admin_page(guard), prefix="/admin")
    with TestClient(app, base_url="https://app.example") as client:
        pair = bus.issue("root", scopes=["operator"])
        claims = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"])
        client.cookies.set(bus.settings.cookies.access_name, pair.access_token)
        client.headers["X-CSRF-Token"] = claims["csrf"]
        yield client


PATHS = [
    *("/admin/", "/admin/page.js", "/admin/page.css", "/admin/icon.svg"),
    *("/admin/sessions?subject=alice", "/admin/events"),
]


@pytest.mark.parametrize("path", PATHS)
def test_every_part_is_behind_the_guard(client: TestClient, path: str) -> None:
    """Anybody could see who is signed out, and how the fleet is."""
    client.cookies.clear()
    assert client.get(path).status_code == 401
    assert client.post("/admin/revoke", json={}, headers=SAME).status_code == 401


def test_a_user_without_the_scope_sees_nothing(client: TestClient) -> None:
    """Any user could sign everybody out."""
    bus: RevokeBus = client.app.state.revokebus  # type: ignore[attr-defined]  # a FastAPI
    client.cookies.clear()
    client.cookies.set(bus.settings.cookies.access_name, bus.issue("mallory").access_token)
    assert client.get("/admin/").status_code == 403


def test_the_sessions_of_a_user_are_told(client: TestClient) -> None:
    """An operator could end all sessions of a user, and none of them alone."""
    bus: RevokeBus = client.app.state.revokebus  # type: ignore[attr-defined]  # a FastAPI
    assert client.get("/admin/sessions", params={"subject": "alice"}).json() == []
    assert client.portal is not None
    pair = client.portal.call(partial(bus.sign_in, "alice", device="phone"))
    (told,) = client.get("/admin/sessions", params={"subject": "alice"}).json()
    assert (told["device"], told["session_id"]) == ("phone", pair.session_id)
    for subject in ("", "x" * 5000, "\0"):
        answer = client.get("/admin/sessions", params={"subject": subject})
        assert answer.status_code == 422
    assert client.get("/admin/sessions").status_code == 422


@pytest.mark.parametrize("path", PATHS[:-1])
def test_nothing_is_loaded_from_elsewhere(client: TestClient, path: str) -> None:
    """A script of somebody else's could revoke, and the page be framed by another site."""
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_has_nothing_inline_and_no_other_address() -> None:
    """The policy would block a part of the page, or it would need the internet."""
    page = (STATIC / "page.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page)
    for name in ("page.html", "page.css", "page.js"):
        text = (STATIC / name).read_text()
        assert not re.search(r"https?://|//[a-z]+\.", text), name
    script = (STATIC / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another host of the same domain
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://app.example.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example"},
    ],
)
def test_a_post_from_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    """A page that an operator visits could sign users out."""
    order = {"kind": "subject", "value": "alice"}
    assert client.post("/admin/revoke", json=order, headers=headers).status_code == 403
    bus: RevokeBus = client.app.state.revokebus  # type: ignore[attr-defined]  # a FastAPI
    assert bus.status().entries == 0


def test_a_post_without_the_csrf_header_is_refused(client: TestClient) -> None:
    """Tokens in cookies would be sent along by any page."""
    del client.headers["X-CSRF-Token"]
    order = {"kind": "subject", "value": "alice"}
    assert client.post("/admin/revoke", json=order, headers=SAME).status_code == 403


@pytest.mark.parametrize("headers", [SAME, {"Origin": "https://app.example"}])
def test_the_page_may_revoke(client: TestClient, headers: dict[str, str]) -> None:
    """The form would do nothing, with an old browser or a new one."""
    for order in (
        {"kind": "subject", "value": "alice"},
        {"kind": "subject", "value": "alice", "keep": "s"},
        {"kind": "session", "value": "s"},
    ):
        answer = client.post("/admin/revoke", json=order, headers=headers)
        assert answer.status_code == 200
        assert [each["outcome"] for each in answer.json()["confirmations"]] == ["applied"]


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "everybody", "value": "x"},
        {"kind": "subject", "value": ""},
        {"kind": "subject", "value": "x" * 5000},
        {"kind": "subject", "value": "x", "timeout": 1000},
        {"kind": "subject", "value": "x", "issuer": "y"},
        {"kind": "subject", "value": "x", "keep": ""},
        {"kind": "session", "value": "x", "keep": "y"},
        {"kind": "subject"},
        [],
    ],
)
def test_a_wrong_order_is_refused(client: TestClient, order: Any) -> None:
    """A stranger's bytes would end in a 500, or hold a request for minutes."""
    assert client.post("/admin/revoke", json=order, headers=SAME).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        '{"kind": "subject", "value": "\\ud800"}',
        '{"kind": "subject", "value": "x", "timeout": NaN}',
        '{"kind": "subject", "value": "x", "timeout": 1e999}',
        '{"\\ud800": 1}',
        "[" * 10_000,
        "",
    ],
)
def test_a_body_that_cannot_be_repeated_is_refused(client: TestClient, body: str) -> None:
    """FastAPI would repeat it in its answer, which fails, and answer 500."""
    headers = {**SAME, "Content-Type": "application/json"}
    answer = client.post("/admin/revoke", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert "ud800" not in answer.text


def test_an_optional_guard_is_refused() -> None:
    """Anybody could sign everybody out, with one word too many."""
    with pytest.raises(ValueError, match="optional"):
        admin_page(require_access("operator", optional=True))


def test_only_its_own_files_are_served(client: TestClient) -> None:
    """The application's source could be read."""
    for name in ("router.py", "../web.py", "%2e%2e/router.py", "page.html"):
        assert client.get(f"/admin/{name}").status_code in (404, 422)


# In a browser


@pytest.fixture
def fleet() -> Iterator[list[AppServer]]:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        settle(redis)
        environment = {
            "REVOKEBUS_SECRET_KEY": SECRET,
            "REVOKEBUS_REDIS_URL": redis.url,
            "REVOKEBUS_TOKEN_SOURCES": "header,cookie",
            "REVOKEBUS_COOKIES__SECURE": "false",
            "REVOKEBUS_MAX_STALENESS": "6",
            "DEMONSTRATION_KEY": KEY,
        }
        fleet = [AppServer("revokebus.demo.app:app", environment) for _ in range(3)]
        stack.enter_context(serving(*fleet))
        yield fleet


@pytest.fixture
def page(browser: Browser, fleet: list[AppServer]) -> Iterator[Page]:
    """The page, at the first instance, of whoever has followed the printed link."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    conditions: list[str] = []
    page.on("pageerror", lambda error: conditions.append(str(error)))
    page.on("console", lambda said: conditions.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: conditions.append(f"dialog: {dialog.message}"))
    page.goto(f"{fleet[0].url}/operator?key={KEY}")
    yield page
    context.close()
    # What a killed instance or an ended session does to a request is said by the page itself.
    assert [each for each in conditions if "Failed to load resource" not in each] == []


def test_revoke_in_the_page_and_watch_all_confirm(page: Page, fleet: list[AppServer]) -> None:
    """An operator could not act during an incident, or would believe what is not so."""
    for each in fleet:
        expect(page.locator(f'.card.fresh[data-pid="{each.pid}"]')).to_be_visible(timeout=10_000)
    token = sign_in(fleet[1])
    assert all(use(each, token) == 200 for each in fleet)
    page.fill("#value", "alice")
    page.click("#send")
    for each in fleet:
        line = page.locator(f'#result li[data-pid="{each.pid}"]')
        expect(line).to_contain_text("refuses it", timeout=10_000)
    expect(page.locator("#result")).to_contain_text("Refused everywhere")
    assert all(use(each, token) == 401 for each in fleet)
    expect(page.locator("#feed")).to_contain_text("user alice")
    # One ends without a word: its card says so, first that it is silent, then that it is stale.
    gone = fleet[2].pid
    fleet[2].kill()
    expect(page.locator(f'.card.silent[data-pid="{gone}"]')).to_be_visible(timeout=10_000)
    expect(page.locator(f'.card.stale[data-pid="{gone}"]')).to_be_visible(timeout=15_000)
    expect(page.locator(".card.fresh")).to_have_count(2)


def test_one_session_of_a_user_goes_on(page: Page, fleet: list[AppServer]) -> None:
    """An operator could not leave signed in the one who has called him."""
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    kept, other = sign_in(fleet[0]), sign_in(fleet[1])
    page.fill("#value", "alice")
    page.fill("#keep", jwt.decode(kept, options={"verify_signature": False})["sid"])
    page.click("#send")
    expect(page.locator("#result")).to_contain_text("Refused everywhere", timeout=10_000)
    assert [use(each, kept) for each in fleet] == [200] * 3
    assert [use(each, other) for each in fleet] == [401] * 3
    expect(page.locator("#feed")).to_contain_text("but session")
    page.select_option("#kind", "session")
    expect(page.locator("#keep")).to_be_hidden()


def test_one_of_a_users_devices_is_ended(page: Page, fleet: list[AppServer]) -> None:
    """Whoever calls because a telephone was stolen would be signed out everywhere."""
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    phone, laptop = sign_in(fleet[0], "<b>phone</b>"), sign_in(fleet[1], "laptop")
    page.fill("#value", "alice")
    page.click("#look")
    lines = page.locator("#sessions li")
    expect(lines).to_have_count(2, timeout=10_000)
    expect(lines.nth(0)).to_contain_text("laptop")
    expect(lines.nth(1)).to_contain_text("<b>phone</b>")
    lines.nth(1).get_by_role("button").click()
    expect(page.locator("#result")).to_contain_text("Refused everywhere", timeout=10_000)
    expect(lines).to_have_count(1)
    assert [use(each, phone) for each in fleet] == [401] * 3
    assert [use(each, laptop) for each in fleet] == [200] * 3


def test_an_instance_that_hangs_is_named_in_the_page(page: Page, fleet: list[AppServer]) -> None:
    """An operator would take the account for locked everywhere."""
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    fleet[1].freeze()
    page.select_option("#kind", "session")
    page.fill("#value", "a-session")
    page.click("#send")
    line = page.locator(f'#result li[data-pid="{fleet[1].pid}"]')
    expect(line).to_contain_text("has not answered", timeout=10_000)
    fleet[1].thaw()


def test_what_strangers_write_stays_text(page: Page) -> None:
    """A user could name himself so that the operator's browser does what he wants."""
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    name = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page.fill("#value", name)
    page.click("#send")
    expect(page.locator("#feed li").first).to_contain_text(name)
    assert page.locator("#feed img, #feed script").count() == 0


def test_it_can_be_used_on_a_phone(browser: Browser, fleet: list[AppServer]) -> None:
    """Whoever is called at night would have to find a computer first."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    page.goto(f"{fleet[0].url}/operator?key={KEY}")
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    width: int = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    box = page.locator("#send").bounding_box()
    assert box is not None
    assert box["height"] >= 44  # what a thumb hits
    context.close()


def test_a_signed_out_operator_sees_nothing_more(page: Page) -> None:
    """The page would go on for whoever was signed out with it."""
    expect(page.locator(".card.fresh")).to_have_count(3, timeout=10_000)
    page.fill("#value", "operator")
    page.click("#send")
    expect(page.locator("#result")).to_contain_text("Refused everywhere")
    expect(page.locator("#connection")).to_contain_text("sign in", timeout=10_000)


def sign_in(instance: AppServer, device: str = "a browser") -> str:
    credentials = {"username": "alice", "password": "wonderland"}
    headers = {"User-Agent": device}
    answer = httpx2.post(f"{instance.url}/login", json=credentials, headers=headers)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def use(instance: AppServer, token: str) -> int:
    header = {"Authorization": f"Bearer {token}"}
    deadline = time.monotonic() + 5
    while True:
        try:
            return httpx2.get(f"{instance.url}/protected", headers=header).status_code
        except httpx2.TransportError:
            assert time.monotonic() < deadline
