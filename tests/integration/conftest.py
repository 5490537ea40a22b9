"""A client of the server, and three engines on it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from revokebus.engine.engine import Engine
from revokebus.testing import ClusterServers, SentinelServers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import redis

    from revokebus.testing import RedisServer
    from tests.support import MakeSettings


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
async def fleet(
    redis_server: RedisServer, make_settings: MakeSettings
) -> AsyncIterator[list[Engine]]:
    async with AsyncExitStack() as stack:
        settings = make_settings(redis_server.url)
        yield [await stack.enter_async_context(Engine(settings)) for _ in range(3)]


@pytest.fixture(scope="module")
def sentinels(redis_binary: str) -> Iterator[SentinelServers]:
    """Servers that a test may read and write, and freeze for a moment; no failovers."""
    with SentinelServers(redis_binary) as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster(redis_binary: str) -> Iterator[ClusterServers]:
    """Likewise."""
    with ClusterServers(redis_binary) as servers:
        yield servers
