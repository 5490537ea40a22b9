"""``uvicorn --workers``: several processes behind one port."""

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

from revokebus.testing.process import LOOPBACK, ReservedPort

if TYPE_CHECKING:
    from pathlib import Path

    from revokebus.testing import RedisServer

WORKERS = 2
_SECONDS = 30


def test_a_revocation_reaches_every_worker(redis_server: RedisServer, tmp_path: Path) -> None:
    """A token would be refused by one worker of a server and accepted by the next."""
    environment = {
        **os.environ,
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": redis_server.url,
    }
    reserved = ReservedPort()
    port = reserved.number
    command = [sys.executable, "-m", "uvicorn", "examples.redis_app:app"]
    command += ["--host", LOOPBACK, "--port", str(port), "--workers", str(WORKERS)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
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
