"""The README: its program runs, its commands exist, and its figures were measured."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from revokebus import Settings
from revokebus.testing import AppServer

if TYPE_CHECKING:
    from revokebus.testing import RedisServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_block_is_run_by_a_test_of_this_file() -> None:
    """A block added later would rot unseen."""
    assert [name for name, _ in BLOCKS] == ["python", "sh"]


def test_a_stranger_can_read_it_at_once() -> None:
    """A stranger would leave before finding out what this is."""
    lines = README.splitlines()
    assert len(lines) <= 150
    program = next(number for number, line in enumerate(lines) if line == "```python")
    assert program < 10


def test_the_program_runs(tmp_path: Path, redis_server: RedisServer) -> None:
    """The first program that a newcomer sees would not do what the README says."""
    (tmp_path / "readme_program.py").write_text(BLOCKS[0][1])
    settings = {
        "PYTHONPATH": str(tmp_path),
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": redis_server.url,
    }
    with AppServer("readme_program:app", settings) as server, httpx2.Client() as http:
        token = http.post(f"{server.url}/login").json()["access_token"]
        header = {"Authorization": f"Bearer {token}"}
        assert http.get(f"{server.url}/items", headers=header).json() == ["an item of alice"]
        assert http.delete(f"{server.url}/logout", headers=header).status_code == 200
        answer = http.get(f"{server.url}/items", headers=header)
        assert (answer.status_code, answer.json()["detail"]) == (401, "Token has been revoked")


@pytest.mark.parametrize("command", BLOCKS[1][1].splitlines())
def test_the_two_commands_exist(command: str) -> None:
    """The first thing that a newcomer types would fail."""
    done = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ".venv/bin/python -m" in done.stdout


def test_its_figures_are_those_that_were_measured() -> None:
    """A stranger would decide by figures that nobody has measured."""
    rows = json.loads((ROOT / "load_tests" / "results" / "all.json").read_text())["rows"]
    of = {row["what"]: row for row in rows}
    p50, p99 = (of[f"revoked at A to refused at B, {name}"]["ours"] for name in ("p50", "p99"))
    assert f"| {p50:.1f} ms (p99: {p99:.1f} ms) |" in README
    check = of["check of a request, 1,000,000 entries, nothing new"]
    assert check["against"] == "10 entries"
    for microseconds in (check["ours"], check["theirs"]):
        assert f"| {microseconds:.1f} µs |" in README
    assert f"| {of['memory for a record at 1,000,000']['ours']:.0f} bytes |" in README


def test_every_setting_stands_in_the_table() -> None:
    """A reader would not learn of a setting, or be told a default that is not true."""
    table = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE))
    named = {name: text for names, text in rows.items() for name in re.findall(r"\w+", names)}
    assert set(named) == set(Settings.model_fields)
    for name in ("max_staleness", "startup_timeout", "tick_interval", "redis_timeout", "leeway"):
        assert float(named[name]) == Settings.model_fields[name].default
