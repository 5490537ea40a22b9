"""What a request and a delivery cost as the copy and the fleet grow."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from load_tests.measure import Curve, at_most, medians, progress, seconds, tell
from load_tests.revocations import fill
from load_tests.revoke import token
from revokebus.claims import AccessToken
from revokebus.engine import Engine
from revokebus.settings import Settings
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = (10, 1_000, 100_000, 1_000_000)
INSTANCES = (1, 10, 50)
CALLS = 2_000
ROUNDS = 40
REVOCATIONS = 200
FLAT = 1.5
"""How many times as much a request may take with a million entries as with ten."""
LINEAR = 1.3
"""How many times as much a delivery may take in a fleet of fifty as in one of ten."""


def requests() -> None:
    """Tell what the check of a request takes, with nothing new and just after a revocation."""
    loop = asyncio.new_event_loop()
    contestants: dict[str, Callable[[], float]] = {}
    for entries in ENTRIES:
        settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url="memory://")
        engine = Engine(settings)
        loop.run_until_complete(engine.start())
        fill(engine, entries)
        encoded = engine.issue("alice").access_token
        loop.run_until_complete(engine.authenticate(encoded, AccessToken))
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {encoded}".encode())]
        for is_new in (False, True):
            contestants[f"{entries} {is_new}"] = checking(engine, headers, is_new=is_new)
    took = medians(ROUNDS, contestants)
    lines = {
        name: [(entries, took[f"{entries} {is_new}"] / CALLS * 1e6) for entries in ENTRIES]
        for name, is_new in (("nothing new", False), ("after each revocation", True))
    }
    tell(Curve("entries", "The check of one request", "entries", "µs", lines))
    for name, points in lines.items():
        what = f"check of a request, {ENTRIES[-1]:,} entries, {name}"
        tell(at_most(what, f"{ENTRIES[0]} entries", points[-1][1], points[0][1], "µs", FLAT))


def checking(
    engine: Engine, headers: list[tuple[bytes, bytes]], *, is_new: bool
) -> Callable[[], float]:
    """Return what checks a token many times and returns how long that took, in seconds."""
    denylist = engine._denylist  # noqa: SLF001 - a revocation is feigned, to look up anew

    def check() -> None:
        for _ in range(CALLS):
            if is_new:
                denylist.changed()
            assert engine.recall(headers, AccessToken) is not None

    return lambda: seconds(check)


async def deliveries() -> None:
    """Tell what each instance of a fleet takes for a revocation, all of them in this process."""
    times: list[tuple[float, float]] = []
    shares: list[tuple[float, float]] = []
    with RedisServer() as server:
        for count in INSTANCES:
            processor, latency = await fleet_of(count, server.url)
            times.append((count, latency * 1e3))
            shares.append((count, processor / count * 1e6))
            progress(0.5 + 0.5 * count / INSTANCES[-1])
    title = "One revocation, in a fleet"
    tell(Curve("fleet", title, "instances", "ms", {"until all of them refuse it": times}))
    tell(Curve("delivery", title, "instances", "µs of processor each", {"a delivery": shares}))
    what = f"processor time for a delivery, {INSTANCES[-1]} instances"
    tell(at_most(what, f"{INSTANCES[1]} instances", shares[-1][1], shares[1][1], "µs", LINEAR))


async def fleet_of(count: int, url: str) -> tuple[float, float]:
    """Return the processor time and the time that a revocation takes, in seconds."""
    settings = Settings(
        secret_key=secrets.token_urlsafe(64), redis_url=url, tick_interval=20, max_staleness=120
    )
    heard = asyncio.Event()
    missing = 0

    def refused(_: object) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            heard.set()

    async with contextlib.AsyncExitStack() as started:
        fleet = [await started.enter_async_context(Engine(settings)) for _ in range(count)]
        author = await started.enter_async_context(Engine(settings))
        for each in fleet:
            each._denylist.on_add = refused  # noqa: SLF001 - the moment of the delivery
        took = 0.0
        began_at = time.process_time()
        for _ in range(REVOCATIONS):
            missing = count
            heard.clear()
            began = time.perf_counter()
            await author.revoke(token())
            await heard.wait()
            took += time.perf_counter() - began
        processor = time.process_time() - began_at
    return processor / REVOCATIONS, took / REVOCATIONS


if __name__ == "__main__":
    requests()
    asyncio.run(deliveries())
