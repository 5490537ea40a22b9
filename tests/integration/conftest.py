"""A client of the server, and three engines on it."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from revokebus.engine.engine import Engine
from revokebus.testing import ClusterServers, SentinelServers
from tests.support import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import redis
    from playwright.sync_api import Browser

    from revokebus.store.parts import StoreParts
    from revokebus.testing import RedisServer
    from tests.support import MakeSettings


@pytest.fixture
async def parts(
    redis_server: RedisServer, make_settings: MakeSettings
) -> AsyncIterator[StoreParts]:
    async with opened(make_settings(redis_server.url)) as parts:
        yield parts


# Without these it looks for its maker's servers.
_OFFLINE = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_OFFLINE)
        yield browser
        browser.close()


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
