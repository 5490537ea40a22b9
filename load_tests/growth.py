"""What a request and a delivery cost as the copy and the fleet grow."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from typing import TYPE_CHECKING

from load_tests.measure import Curve, at_most, log_errors_only, medians, seconds, tell
from load_tests.revocations import fill
from load_tests.revoke import token
from revokebus.engine.engine import Engine
from revokebus.settings.settings import Settings
from revokebus.testing import RedisServer
from revokebus.tokens.claims import AccessToken

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = (10, 1_000, 100_000, 1_000_000)
INSTANCES = (1, 10, 50)
CALLS = 2_000
ROUNDS = 40
REVOCATIONS = 40
FLEET_ROUNDS = 12
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
            assert engine.cached_token(headers, AccessToken) is not None

    return lambda: seconds(check)


class Fleet:
    """Instances that hear of revocations, and one that is their author, in a namespace of theirs.

    Args:
        count: How many instances, beside the author.
        url: The Redis.
    """

    def __init__(self, count: int, url: str) -> None:
        settings = Settings(
            secret_key=secrets.token_urlsafe(64),
            redis_url=url,
            namespace=f"fleet{count}",
            tick_interval=20,
            max_staleness=120,
        )
        self.author = Engine(settings)
        self.instances = [Engine(settings) for _ in range(count)]
        self.latencies: list[float] = []
        self._heard = asyncio.Event()
        self._missing = 0

    async def start(self) -> None:
        """Start them all."""
        for each in (self.author, *self.instances):
            await each.start()
        for each in self.instances:
            each._denylist.on_add = self._refused  # noqa: SLF001 - the moment of the delivery

    def _refused(self, _: object) -> None:
        self._missing -= 1
        if not self._missing:
            self._heard.set()

    async def revoke(self) -> float:
        """Revoke some tokens in turn; return the processor time of each, in seconds."""
        began_at = time.process_time()
        for _ in range(REVOCATIONS):
            self._missing = len(self.instances)
            self._heard.clear()
            began = time.perf_counter()
            await self.author.revoke(token())
            if self.instances:
                await self._heard.wait()
            self.latencies.append(time.perf_counter() - began)
        return (time.process_time() - began_at) / REVOCATIONS

    async def close(self) -> None:
        """Close them all."""
        for each in (self.author, *self.instances):
            await each.close()


def deliveries() -> None:
    """Tell what each instance of a fleet takes for a revocation, all of them in this process.

    What the author takes, who is alone in a fleet of his, is not counted.
    """
    loop = asyncio.new_event_loop()

    def revoking(fleet: Fleet) -> Callable[[], float]:
        return lambda: loop.run_until_complete(fleet.revoke())

    with RedisServer() as server:
        fleets = {count: Fleet(count, server.url) for count in (0, *INSTANCES)}
        for fleet in fleets.values():
            loop.run_until_complete(fleet.start())
        contestants = {str(count): revoking(fleet) for count, fleet in fleets.items()}
        took = medians(FLEET_ROUNDS, contestants)
        for fleet in fleets.values():
            loop.run_until_complete(fleet.close())
    alone = took["0"]
    shares = [(count, (took[str(count)] - alone) / count * 1e6) for count in INSTANCES]
    times = [(count, statistics.median(fleets[count].latencies) * 1e3) for count in INSTANCES]
    title = "One revocation, in a fleet"
    tell(Curve("fleet", title, "instances", "ms", {"until all of them refuse it": times}))
    tell(Curve("delivery", title, "instances", "µs of processor each", {"a delivery": shares}))
    what = f"processor time for a delivery, {INSTANCES[-1]} instances"
    tell(at_most(what, f"{INSTANCES[1]} instances", shares[-1][1], shares[1][1], "µs", LINEAR))


if __name__ == "__main__":
    log_errors_only()
    requests()
    deliveries()
