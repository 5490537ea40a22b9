"""A protected endpoint in process: the ASGI application is called, and nothing else."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from typing import TYPE_CHECKING, Any

from load_tests.measure import Row, at_least, at_most, log_errors_only, medians, seconds, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from revokebus import RevokeBus

os.environ.setdefault("BENCH_SECRET", secrets.token_urlsafe(64))

from load_tests.peers import bare, empty_dependency, guarded, local_set
from load_tests.revocations import fill

ROUNDS = 150
REQUESTS = 200
ENTRIES = 1_000_000
BAR = 0.95
CALLS = 100_000
METRICS_BAR = 0.02


def caller(loop: asyncio.AbstractEventLoop, app: FastAPI, token: str) -> Callable[[], float]:
    """Return what sends requests to `app` and returns how many it answers in a second."""
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"bench"),
        (b"accept", b"*/*"),
        (b"authorization", f"Bearer {token}".encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/protected",
        "raw_path": b"/protected",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def some() -> float:
        began = time.perf_counter()
        for _ in range(REQUESTS):
            await app({**scope, "state": {}}, receive, send)
        return REQUESTS / (time.perf_counter() - began)

    def call() -> float:
        statuses.clear()
        rate = loop.run_until_complete(some())
        assert statuses == [200] * REQUESTS, set(statuses)
        return rate

    return call


def main() -> None:
    """Measure without entries, and then with a million."""
    loop = asyncio.new_event_loop()
    bus = guarded.bus
    loop.run_until_complete(bus.start())
    token = bus.issue("alice").access_token
    by_hand = loop.run_until_complete(local_set.login())["access_token"]
    contestants = {
        "ours": caller(loop, guarded.app, token),
        "empty": caller(loop, empty_dependency.app, token),
        "bare": caller(loop, bare.app, token),
        "by hand": caller(loop, local_set.app, by_hand),
    }
    for entries in (0, ENTRIES):
        fill(bus, entries)
        assert len(bus._denylist) == entries  # noqa: SLF001 - its size is what is varied
        rate = medians(ROUNDS, contestants)
        what = f"protected endpoint in process, {entries:,} entries"
        note = f"bare {rate['bare']:,.0f}/s"
        tell(at_least(what, "an empty dependency", rate["ours"], rate["empty"], "/s", BAR, note))
        tell(at_least(what, "PyJWT and a set", rate["ours"], rate["by hand"], "/s", None))
    tell(of_counting(bus, rate["ours"]))
    loop.run_until_complete(bus.close())


def of_counting(bus: RevokeBus, rate: float) -> Row:
    """Return what a request's share for the metrics is: the addition that it costs."""
    counters = bus.counts

    def count() -> None:
        for _ in range(CALLS):
            counters.recalled += 1

    took = statistics.median(seconds(count) for _ in range(21)) / CALLS
    what = "counting a request for the metrics"
    return at_most(what, "the request", took * 1e6, 1e6 / rate, "µs", METRICS_BAR)


if __name__ == "__main__":
    log_errors_only()
    main()
