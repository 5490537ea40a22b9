from __future__ import annotations

import logging
import subprocess
import sys

import pytest

PROGRAM = """
import logging
from revokebus import Settings
from revokebus.engine.engine import Engine

{set_up}
for _ in range(2):
    Engine(Settings(redis_url="memory://", secret_key="{key}"))
logger = logging.getLogger("revokebus")
logger.info("not so serious")
logger.warning("something is wrong with %s", "Redis")
"""


@pytest.mark.parametrize(
    ("set_up", "printed"),
    [
        ("", "WARNING: something is wrong with Redis\n"),
        ("logging.basicConfig(format='mine %(message)s')", "mine something is wrong with Redis\n"),
        ("logging.getLogger('revokebus').addHandler(logging.NullHandler())", ""),
        (
            "logging.getLogger('revokebus').propagate = False",
            "WARNING: something is wrong with Redis\n",
        ),
    ],
    ids=["nothing", "basic", "silenced", "apart"],
)
def test_each_line_is_printed_once_and_with_its_level(set_up: str, printed: str) -> None:
    """Under uvicorn an error would look like a note, or each line come twice."""
    key = "kX2-vR7_pQ9zL4mN8wT1yB5cF3hJ6dG0sA-uE_iO2rWqZxVnMtYbKcPj"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(set_up=set_up, key=key)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == printed


def test_a_handler_that_comes_later_takes_over() -> None:
    """A suite, or an application that sets up logging late, would see each line twice."""
    from revokebus.telemetry.last_resort import LastResort  # noqa: PLC0415

    handler, record = LastResort(), logging.LogRecord("revokebus", 40, "", 0, "x", None, None)
    assert not handler.filter(record)  # pytest has handlers
