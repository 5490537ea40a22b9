"""``make demo``, as a command."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from revokebus.testing.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

COMMAND = [sys.executable, "-m", "revokebus.demo"]
_SECONDS = 60


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.wait(_SECONDS)
    assert process.stdout is not None
    process.stdout.close()


def check_table(output: str) -> None:
    rows = re.findall(r"│ (\d)\D[^│]*│\s*([+-][\d.]+) │\s*([+-][\d.]+) │", output)
    assert [row[0] for row in rows] == ["1", "2", "3"]
    for _, accepted, refused in rows:
        assert float(accepted) < float(refused) < 1000
    assert "Instance 4, started after the revocation, answers 401." in output


def test_it_shows_when_each_instance_began_to_refuse() -> None:
    """The first command that a newcomer runs would fail or show nothing."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=True)
    assert "Embedded Valkey serves redis://127.0.0.1:" in done.stdout
    check_table(done.stdout)


def test_a_program_can_read_it() -> None:
    """``revokebus demo --json`` would print a table between the numbers."""
    command = [sys.executable, "-m", "revokebus.cli", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    refusals = json.loads(done.stdout)
    assert len(refusals) == 3
    assert all(each["last_accepted"] < each["first_refused"] for each in refusals)


def test_it_uses_a_redis_at_hand(redis_server: RedisServer) -> None:
    """A user's own Redis could not be tried, or would be left with the demonstration's keys."""
    environment = {**os.environ, "REVOKEBUS_REDIS_URL": redis_server.url}
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=True, env=environment
    )
    assert "Embedded" not in done.stdout
    check_table(done.stdout)
    with redis_server.client() as client:
        assert client.exists(*client.keys("{revokebus-demo-*"))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_prints_lines_that_work_and_ends_with_everything(
    demo: subprocess.Popen[str], ending: signal.Signals
) -> None:
    """The printed commands would not work, or Ctrl-C would leave servers running."""
    assert demo.stdout is not None
    lines: list[str] = []
    while not any(line.startswith("curl -i") for line in lines[-1:]) or "DELETE" not in lines[-2]:
        line = demo.stdout.readline()
        assert line, "".join(lines)
        lines.append(line)
    script = [line for line in lines if line.startswith(("TOKEN=", "curl "))]
    answers = subprocess.run(
        ["bash", "-euc", "".join(script)], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["200"] * 4 + ["401"]
    started = children(demo.pid)
    assert len(started) == 5  # a Valkey and four instances
    demo.send_signal(ending)
    demo.wait(_SECONDS)
    assert not any(alive(pid) for pid in started)


def test_an_interruption_at_the_start_leaves_nothing(demo: subprocess.Popen[str]) -> None:
    """Ctrl-C in the first seconds would leave a server running."""
    assert demo.stdout is not None
    assert "Embedded Valkey" in demo.stdout.readline()
    started = children(demo.pid)
    demo.send_signal(signal.SIGINT)
    assert "has been stopped" in demo.stdout.read()
    # A shell calls both 130. Where the signal comes in the midst of an import that runs `exec`, as
    # that of a data class does, Python ends by the signal, although it was dealt with.
    assert demo.wait(_SECONDS) in (130, -signal.SIGINT)
    # The system ends them with their parent, a moment later.
    wait_until(lambda: not any(alive(pid) for pid in started), "all have ended")


def test_a_redis_that_is_away_is_said() -> None:
    """A wrong address would end in a traceback."""
    secret = secrets.token_hex(4)
    environment = {**os.environ, "REVOKEBUS_REDIS_URL": f"redis://:{secret}@127.0.0.1:1/0"}
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment
    )
    assert done.returncode == 1
    assert "The demonstration failed" in done.stdout
    assert "refused" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr


def test_memory_is_refused_at_once() -> None:
    """The quick start's setting would make the demonstration fail after ten seconds."""
    environment = {**os.environ, "REVOKEBUS_REDIS_URL": "memory://"}
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment
    )
    assert done.returncode == 1
    assert "unset REVOKEBUS_REDIS_URL" in " ".join(done.stdout.split())
