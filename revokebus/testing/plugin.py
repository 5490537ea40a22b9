"""Fixtures for pytest; they are there wherever RevokeBus is installed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from revokebus import testing  # which imports what a fixture needs, once it does

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from revokebus.testing.clock import ManualClock
    from revokebus.testing.kit import Kit
    from revokebus.testing.link import Link
    from revokebus.testing.redis_server import RedisServer

    MakeLink = Callable[[], Link]


@pytest.fixture
def revokebus_clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    return testing.ManualClock()


@pytest.fixture
def revokebus_kit(revokebus_clock: ManualClock) -> Kit:
    """Settings, users, and their end."""
    return testing.Kit(revokebus_clock)


@pytest.fixture
def revokebus_redis() -> Iterator[RedisServer]:
    """A real server for this test; needs the extra ``revokebus[testing]``."""
    with testing.RedisServer() as server:
        yield server


@pytest.fixture
def revokebus_link(revokebus_redis: RedisServer) -> Iterator[MakeLink]:
    """Make ways to `revokebus_redis` that drop, hold, reorder and break on command."""
    with ExitStack() as links:
        yield lambda: links.enter_context(testing.Link(*revokebus_redis.address))
