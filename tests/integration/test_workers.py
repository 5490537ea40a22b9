"""How an application is run: several processes behind one port, and below a path of a proxy."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from revokebus.testing import AppServer
from revokebus.testing.process import LOOPBACK, ReservedPort

if TYPE_CHECKING:
    from pathlib import Path

    from revokebus.testing import RedisServer

WORKERS = 2
_SECONDS = 30


UVICORN = ["uvicorn", "examples.redis_app:app", "--host", LOOPBACK, "--port", "{port}"]
GUNICORN = ["gunicorn", "examples.redis_app:app", "--bind", f"{LOOPBACK}:{{port}}"]
GUNICORN += ["--worker-class", "uvicorn_worker.UvicornWorker"]


@pytest.mark.parametrize(
    "command", [UVICORN, GUNICORN, [*GUNICORN, "--preload"]], ids=["uvicorn", "gunicorn", "preload"]
)
def test_a_revocation_reaches_every_worker(
    redis_server: RedisServer, tmp_path: Path, command: list[str]
) -> None:
    """A token would be refused by one worker of a server and accepted by the next."""
    environment = {
        **os.environ,
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": redis_server.url,
    }
    reserved = ReservedPort()
    port = reserved.number
    words = [word.format(port=port) for word in command]
    words = [sys.executable, "-m", *words, "--workers", str(WORKERS)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        with redis_server.client() as client:
            wait_for(lambda: client.hlen("{revokebus}:instances") == WORKERS + 1)
            wait_for(lambda: not client.exists("{revokebus}:hold"))
        wait_for(lambda: serves(port))
        check(f"http://{LOOPBACK}:{port}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(_SECONDS)


def serves(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def check(url: str) -> None:
    body = {"username": "alice", "password": "wonderland"}
    pair = httpx2.post(f"{url}/login", json=body).raise_for_status().json()
    header = {"Authorization": f"Bearer {pair['access_token']}"}

    def answers() -> set[int]:
        # Each request on a connection of its own, so that every worker gets some.
        return {httpx2.get(f"{url}/protected", headers=header).status_code for _ in range(30)}

    assert answers() == {200}
    httpx2.delete(f"{url}/access-revoke", headers=header).raise_for_status()
    wait_for(lambda: answers() == {401})


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_below_a_path_of_a_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Behind a proxy with a path every refresh would be 401, and Authorize a 404."""
    (tmp_path / "below.py").write_text(BELOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = {
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": "memory://",
        "REVOKEBUS_REFRESH_SOURCES": "cookie",
        "REVOKEBUS_COOKIES__SECURE": "false",
        "REVOKEBUS_COOKIES__REFRESH_PATH": "/api/refresh",
    }
    with (
        AppServer("below:app", environment) as behind,
        AppServer("tests.programs.path_proxy:app", {"BEHIND": behind.url}) as proxy,
        httpx2.Client(base_url=f"{proxy.url}/api") as browser,
    ):
        document = browser.get("/openapi.json").json()
        flow = document["components"]["securitySchemes"]["AccessToken"]["flows"]["password"]
        form = {"username": "alice", "password": "x"}
        token = browser.post(f"/{flow['tokenUrl']}", data=form).json()["access_token"]
        header = {"Authorization": f"Bearer {token}"}
        assert browser.get("/me", headers=header).json() == "alice"
        csrf = {"X-CSRF-Token": browser.cookies["csrf_token"]}
        assert browser.post("/refresh", headers=csrf).status_code == 200
        assert browser.post("/refresh").status_code == 403


BELOW = """
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.security import OAuth2PasswordRequestForm

from revokebus import AccessToken, IssuedAccess, RefreshToken, RevokeBus
from revokebus import require_access, require_refresh

app = FastAPI(root_path="/api")
bus = RevokeBus.attach(app)


@app.post("/login")
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], response: Response
) -> IssuedAccess:
    pair = bus.issue(form.username)
    bus.set_cookies(response, pair)
    return pair.access


@app.post("/refresh")
async def refresh(
    token: Annotated[RefreshToken, Depends(require_refresh())], response: Response
) -> IssuedAccess:
    pair = await bus.rotate(token)
    bus.set_cookies(response, pair)
    return pair.access


@app.get("/me")
async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    return token.subject
"""
