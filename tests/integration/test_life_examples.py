"""The examples of issue and end: each under uvicorn, spoken to as its clients would."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from revokebus.testing import AppServer, serving
from revokebus.testing.redis_server import embedded_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

ROOT = Path(__file__).parents[2]
ALICE = {"username": "alice", "password": "wonderland"}


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


@pytest.fixture
def settings(redis_server: RedisServer) -> dict[str, str]:
    return {
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": redis_server.url,
    }


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=10) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def until(http: httpx2.Client, url: str, status: int, token: str) -> None:
    deadline = time.monotonic() + 5
    while http.get(url, headers=bearer(token)).status_code != status:
        assert time.monotonic() < deadline


def test_the_page_with_cookies(settings: dict[str, str]) -> None:
    """Whoever copies it would have a page that cannot sign in, or that others can ride on."""
    # localhost: the cookies are marked Secure, and it is the one host that needs no TLS for them.
    servers = [AppServer("examples.browser_cookies:app", settings) for _ in range(2)]
    with serving(*servers):
        one, two = (server.url for server in servers)
        with httpx2.Client() as browser:
            answer = browser.post(f"{one}/login", json=ALICE)
            assert browser.post(f"{one}/login", json={**ALICE, "password": "x"}).status_code == 401
            set_ = answer.headers.get_list("set-cookie")
            cookies = {c.split("=")[0]: c for c in set_ if "Max-Age=0" not in c}
            assert all("Secure" in c and "SameSite=strict" in c for c in cookies.values())
            assert "Path=/refresh" in cookies["__Secure-refresh_token"]
            jar = {name: re.match(rf"{name}=([^;]*)", c)[1] for name, c in cookies.items()}  # type: ignore[index]  # it matches
        page = httpx2.get(one)
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "X-CSRF-Token" in httpx2.get(f"{one}/page.js").text

        def send(method: str, path: str, url: str = one, *, csrf: bool = True, **kw: Any) -> Any:
            value = jar["__Host-csrf_token"]
            headers = {"X-CSRF-Token": value} if csrf else {}
            name = "__Secure-refresh_token" if path == "/refresh" else "__Host-access_token"
            headers["Cookie"] = f"{name}={jar[name]}; __Host-csrf_token={value}"
            return httpx2.request(method, f"{url}{path}", headers=headers, **kw)

        assert send("PUT", "/note", json={"text": "hi"}).json() == {"text": "hi"}
        assert send("GET", "/note", csrf=False).json() == {"text": "hi"}
        assert send("PUT", "/note", json={"text": "!"}, csrf=False).status_code == 403
        first, second = send("POST", "/refresh"), send("POST", "/refresh", two)  # two tabs
        assert first.status_code == second.status_code == 200
        assert first.headers.get_list("set-cookie")[0] == second.headers.get_list("set-cookie")[0]
        done = send("POST", "/logout")
        assert done.status_code == 200
        assert 'access_token=""; ' in done.headers.get_list("set-cookie")[0]
        deadline = time.monotonic() + 5
        while send("GET", "/note", two).status_code != 401:
            assert time.monotonic() < deadline
        assert send("POST", "/refresh", two).status_code == 401


def test_the_chat(settings: dict[str, str], http: httpx2.Client) -> None:
    """Who has left would read along."""
    servers = [AppServer("examples.chat:app", settings) for _ in range(2)]
    with serving(*servers):
        one, two = (server.url for server in servers)
        alice, bob = (
            http.post(f"{one}/login/{name}").json()["access_token"] for name in ("alice", "bob")
        )
        room = f"ws{two.removeprefix('http')}/chat"
        with (
            connect(f"{room}?access_token={alice}", proxy=None) as hers,
            connect(room, additional_headers=bearer(bob), proxy=None) as his,
        ):
            his.send("hello")
            assert hers.recv(5) == his.recv(5) == "bob: hello"
            http.post(f"{one}/logout", headers=bearer(alice)).raise_for_status()
            with pytest.raises(ConnectionClosed) as caught:
                hers.recv(5)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
            his.send("anybody?")
            assert his.recv(5) == "bob: anybody?"
        with pytest.raises(InvalidStatus):
            connect(f"{room}?access_token={alice}", proxy=None)


def test_the_resource_server_and_its_stand_in_issuer(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """A service behind an outside issuer would have no example that works."""
    issuer = subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.stand_in_issuer"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert issuer.stdout is not None
        lines = [issuer.stdout.readline() for _ in range(5)]
        exported = dict(re.findall(r"export (\w+)=(\S+)", "".join(lines)))
        alice, admin = exported.pop("ALICE"), exported.pop("ADMIN")
        settings = {**exported, "REVOKEBUS_REDIS_URL": redis_server.url}
        servers = [AppServer("examples.resource_server:app", settings) for _ in range(2)]
        with serving(*servers):
            one, two = (server.url for server in servers)
            answer = http.get(f"{one}/items", headers=bearer(alice))
            assert answer.json() == ["an item of auth0|alice"]
            assert http.get(f"{one}/items", headers=bearer(admin)).status_code == 403
            path = "/users/auth0%7Calice/sign-out"
            assert http.post(f"{one}{path}", headers=bearer(alice)).status_code == 403
            done = http.post(f"{one}{path}", headers=bearer(admin)).raise_for_status().json()
            assert done["revocations"] == 1
            until(http, f"{two}/items", 401, alice)
    finally:
        os.kill(issuer.pid, signal.SIGINT)
        assert issuer.wait(10) == 0
        if issuer.stdout is not None:
            issuer.stdout.close()


def test_the_administrator(settings: dict[str, str], http: httpx2.Client) -> None:
    """An administrator would sign out the wrong people, or nobody."""
    servers = [AppServer("examples.sign_out_everywhere:app", settings) for _ in range(2)]
    with serving(*servers):
        one, two = (server.url for server in servers)

        def sign_in(path: str) -> str:
            return str(http.post(f"{one}/login/{path}").json()["access_token"])

        root, alice, bob, carol = (sign_in(path) for path in ("1/root", "1/alice", "1/bob", "2/c"))
        for token in (alice, bob, carol):
            assert http.get(f"{one}/me", headers=bearer(token)).status_code == 200

        def order(path: str, token: str = root) -> Any:
            return http.post(f"{one}/admin/{path}", headers=bearer(token))

        assert order("users/bob/sign-out", alice).status_code == 403
        dry = order("tenants/1/sign-out?dry_run=true").json()
        assert (dry["revocations"], dry["sessions"], dry["instances"]) == (0, 3, 2)
        assert http.get(f"{two}/me", headers=bearer(alice)).status_code == 200
        order("users/alice/sign-out").raise_for_status()
        until(http, f"{two}/me", 401, alice)
        assert http.get(f"{two}/me", headers=bearer(bob)).status_code == 200
        order("tenants/1/sign-out").raise_for_status()
        until(http, f"{two}/me", 401, bob)
        assert http.get(f"{two}/me", headers=bearer(carol)).status_code == 200
        root = sign_in("1/root")
        assert order("sign-out", root).json()["revocations"] == 1
        until(http, f"{two}/me", 401, carol)
        assert http.get(f"{two}/me", headers=bearer(sign_in("2/c"))).status_code == 200
