"""What a fleet costs the primary that reads from a replica, beside one that reads from it."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from typing import TYPE_CHECKING

from load_tests.fleet.delivery import CHANNEL, INSTANCES, subscribed
from load_tests.fleet.engines import Engines
from load_tests.fleet.held import HeldServer
from load_tests.measure import Row, log_errors_only, progress, tell, track
from revokebus.testing.process import wait_until
from revokebus.testing.redis_server import follows

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    import redis

ENGINES, SECONDS, SETTLED = 100, 12.0, 6.0
MESSAGES, ROUNDS = 50, 5
MESSAGE = b"RB %s 1795500088598-0 1795500088598-1 2 []" % (b"e" * 32)


class Two:
    """A primary and its replica; a context manager."""

    def __init__(self) -> None:
        self.primary = HeldServer({"repl-diskless-sync-delay": "0"})
        host, port = self.primary.address
        self.replica = HeldServer({"replicaof": f"{host} {port}"})

    def __enter__(self) -> Two:
        self.primary.__enter__()
        self.replica.__enter__()
        wait_until(lambda: follows(self.replica), "the replica has a copy")
        return self

    def __exit__(self, *_: object) -> None:
        self.replica.remove()
        self.primary.remove()


def main() -> None:
    """Tell what it takes to tell many, and what it takes to have many."""
    told: dict[str, list[float]] = {"primary": [], "replica": []}
    heard: dict[str, list[float]] = {"primary": [], "replica": []}
    with Two() as two, two.primary.client() as client:
        for _ in track(ROUNDS):
            for where, figures in told.items():
                lines = [subscribed(getattr(two, where).address) for _ in range(INSTANCES)]
                milliseconds, delay = cost(two.primary, client, lines)
                figures.append(milliseconds)
                heard[where].append(delay)
                for line in lines:
                    line.close()
    direct, through = (statistics.median(told[where]) for where in told)
    what = f"the primary's processor to tell {INSTANCES} instances of a revocation"
    tell(compared(what, through, direct, "ms"))
    direct, through = (statistics.median(heard[where]) for where in heard)
    tell(compared("until the first of them hears of it", through, direct, "ms"))
    progress(0.3)
    asyncio.run(idle())


def cost(
    primary: HeldServer, client: redis.Redis, lines: Sequence[socket.socket]
) -> tuple[float, float]:
    """Return the primary's milliseconds for a message, and after how many the first is heard."""
    before, delays = primary.used(), []
    size = len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n" % len(CHANNEL)) + len(CHANNEL)
    size += len(b"\r\n$%d\r\n" % len(MESSAGE)) + len(MESSAGE) + 2
    for _ in range(MESSAGES):
        sent = time.perf_counter()
        client.publish(CHANNEL, MESSAGE)
        for number, line in enumerate(lines):
            left = size
            while left:
                left -= len(line.recv(left))
            if not number:
                delays.append((time.perf_counter() - sent) * 1000)
    return (primary.used() - before) / MESSAGES * 1000, statistics.median(delays)


async def idle() -> None:
    """Tell what an idle fleet takes of the primary, and how old its copies are."""
    used, oldest = [], []
    for number, reads in enumerate((False, True)):
        with Two() as two:
            changes = {"read_from": two.replica.url} if reads else {}
            secret = secrets.token_urlsafe(64)
            fleet = Engines(ENGINES, two.primary.url, secret_key=secret, **changes)
            async with fleet:
                await fleet.watch(SETTLED)
                before = two.primary.used()
                seen = await fleet.watch(SECONDS)
                used.append((two.primary.used() - before) / seen.seconds / ENGINES * 1e6)
                oldest.append(seen.oldest)
        progress(0.3 + 0.35 * (number + 1))
    what = "the primary's processor for an idle instance"
    tell(compared(what, used[1], used[0], "µs/s"))
    tell(compared("oldest copy at rest", oldest[1], oldest[0], "s"))


def compared(what: str, ours: float, direct: float, unit: str) -> Row:
    """Return the row of a figure beside that of a fleet which reads from the primary."""
    return Row(what, "reading from the primary", ours, direct, unit, ours / direct, None, "most")


if __name__ == "__main__":
    log_errors_only()
    main()
