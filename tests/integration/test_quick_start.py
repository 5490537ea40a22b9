"""The quick start, as a newcomer follows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from revokebus.testing.process import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quick-start.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
_SECONDS = 30


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_every_block_is_run_by_a_test_of_this_file() -> None:
    """A block added later would rot unseen."""
    assert [name for name, _ in BLOCKS] == [
        "sh",  # the installation
        "python",  # main.py
        "sh",  # its start
        "sh",  # the requests
        "python",  # the script
        "python",  # a check of its own, and health
    ]


def test_the_installation_is_of_what_is_there() -> None:
    """The quick start would install something else than this project."""
    *setup, install = blocks("sh")[0].splitlines()
    assert setup == ["python3 -m venv .venv", ". .venv/bin/activate"]
    assert install == "pip install ../revokebus uvicorn python-multipart"
    assert 'name = "revokebus"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where `python` and `uvicorn` are those of this run, and `main.py` is the page's."""
    (tmp_path / "main.py").write_text(blocks("python")[0])
    (tmp_path / "more.py").write_text(blocks("python")[2])
    (tmp_path / "script.py").write_text(blocks("python")[1])
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def port(tmp_path: Path, environment: dict[str, str], redis_server: RedisServer) -> Iterator[int]:
    """The application, started by the page's lines, on a free port and a Redis of our own."""
    reserved = ReservedPort()
    port = reserved.number
    script = blocks("sh")[1].replace("8000", str(port)).replace("memory://", redis_server.url)
    exports, serve = script.strip().rsplit("\n", 1)
    serve = serve.replace("main:app", "more:app")  # main.py and what follows it
    script = f"{exports}\necho $REVOKEBUS_SECRET_KEY > key\nexec {serve}"
    process = subprocess.Popen(["bash", "-euc", script], cwd=tmp_path, env=environment)
    try:
        wait_for(process, f"http://localhost:{port}/openapi.json")
        yield port
    finally:
        process.terminate()
        process.wait(_SECONDS)


def wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.mark.skipif(shutil.which("curl") is None, reason="its requests need curl")
def test_the_quick_start(
    port: int, tmp_path: Path, environment: dict[str, str], redis_server: RedisServer
) -> None:
    """The first program that a newcomer writes would not do what the page says."""
    requests = blocks("sh")[2].replace("8000", str(port))
    done = subprocess.run(
        ["bash", "-euc", requests], env=environment, capture_output=True, text=True, check=True
    )
    assert re.findall(r"HTTP/1.1 (\d+)", done.stdout) == ["200", "200", "401"]
    assert "an item of alice" in done.stdout
    assert "Token has been revoked" in done.stdout

    assert httpx2.get(f"http://localhost:{port}/health").json()["state"] == "fresh"

    # The script revokes what the application then refuses.
    form = {"username": "alice", "password": "wonderland"}
    pair = httpx2.post(f"http://localhost:{port}/login", data=form).raise_for_status().json()
    form["password"] = "wrong"
    assert httpx2.post(f"http://localhost:{port}/login", data=form).status_code == 401
    settings = {
        "REVOKEBUS_SECRET_KEY": (tmp_path / "key").read_text().strip(),
        "REVOKEBUS_REDIS_URL": redis_server.url,
    }
    done = subprocess.run(
        [sys.executable, "script.py", pair["session_id"]],
        cwd=tmp_path,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Receipt(revocations=1" in done.stdout
    header = {"Authorization": f"Bearer {pair['access_token']}"}
    deadline = time.monotonic() + _SECONDS
    while httpx2.get(f"http://localhost:{port}/items", headers=header).status_code != 401:
        assert time.monotonic() < deadline
