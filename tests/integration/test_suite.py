"""The suite itself: it does not depend on how it was started, and skips nothing in secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run tests as a background job of a shell does, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_background_job_runs_it_as_well() -> None:
    """Tests of Ctrl-C would hang where the suite is started with `&`, and others with them."""
    done = run("tests/integration/test_cli.py", "-k", "ends_with_control_c")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_nothing_is_skipped_where_everything_must_be_there(tmp_path: Path) -> None:
    """A green run of CI could have tried no browser, and no second kind of server."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\ndef test_it():\n    pytest.skip('there is no browser')\n"
    )
    configuration = f"--rootdir={tmp_path}", "-c", "/dev/null", str(tmp_path)
    assert run(*configuration, NO_SKIPS="").returncode == 0
    done = run(*configuration, NO_SKIPS="1")
    assert done.returncode == 1
    assert "there is no browser" in done.stdout
