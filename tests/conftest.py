"""Servers and settings that the tests share."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from revokebus import Settings
from revokebus.testing import ManualClock, RedisServer
from revokebus.testing.redis_server import embedded_valkey
from tests.support import SECRET, settle

# A background job of a shell inherits SIGINT as ignored, and every child of a test would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

# On a new machine Hypothesis first builds its tables of characters, which is slow once.
hypothesis.settings.register_profile(
    "revokebus", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("revokebus")

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.support import MakeSettings

_PATIENCE = 10.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must be there, a test that is skipped has failed."""
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own REVOKEBUS_* variables must not reach a test."""
    for name in list(os.environ):
        if name.startswith("REVOKEBUS_"):
            monkeypatch.delenv(name)


@pytest.fixture(
    scope="session",
    params=[
        "valkey",
        pytest.param(
            "redis-server",
            marks=pytest.mark.skipif(
                shutil.which("redis-server") is None,
                reason="redis-server is not installed; the embedded Valkey is tested",
            ),
        ),
    ],
)
def redis_binary(request: pytest.FixtureRequest) -> str:
    return embedded_valkey() if request.param == "valkey" else str(request.param)


@pytest.fixture
def redis_server(redis_binary: str) -> Iterator[RedisServer]:
    with RedisServer(redis_binary) as server:
        settle(server)
        yield server


@pytest.fixture
def clock(revokebus_clock: ManualClock) -> ManualClock:
    return revokebus_clock


@pytest.fixture
def make_settings() -> MakeSettings:
    """Settings with a good secret and intervals for impatient tests."""

    def make(redis_url: str = "memory://", **changes: Any) -> Settings:
        quick = {
            "tick_interval": 0.05,
            "redis_timeout": 1.0,
            "max_staleness": 5.0,
            "startup_timeout": 15.0,  # the machine may be busy
            "rotation_grace": 0.0,  # a replay is one at once
            "leeway": 0.0,  # and a token that has expired has expired
        }
        return Settings(**{"redis_url": redis_url, "secret_key": SECRET, **quick, **changes})

    return make


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Any]:
    """Wait for a condition that other tasks or processes bring about."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 - another process has no event to set
                await asyncio.sleep(0.005)

    return wait
