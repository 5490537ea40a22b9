"""What a question to ten thousand instances costs Redis and whoever asks."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from load_tests.fleet.held import HeldServer
from load_tests.fleet.ticks import most
from load_tests.measure import log_errors_only, progress, tell
from revokebus.clock import SystemClock
from revokebus.protocol.heartbeat import Facts, Heartbeat, encode_facts, encode_heartbeat
from revokebus.settings.settings import Settings
from revokebus.store.parts import StoreParts

if TYPE_CHECKING:
    from revokebus.testing import RedisServer

INSTANCES = 10_000
ROUNDS = 5
MOST_MILLISECONDS = 2.0


def main() -> None:
    """Tell for how long it stops each of them at most, and what it takes in all."""
    with HeldServer() as server:
        fill(server)
        asyncio.run(measure(server))


def fill(server: RedisServer) -> None:
    """Let so many instances have sent their heartbeats."""
    heartbeat = encode_heartbeat(
        Heartbeat("fresh", 0.3, "e" * 16, "1795500088598-0", 10_000, complete=True, owed=0)
    )
    facts = encode_facts(
        Facts(
            version="1.0",
            host="payments-api-7d9f8b6c5d-x2x4z",
            pid=1,
            bound=30.0,
            accepts_stale=False,
            interval=0.5,
            longest_life=2_592_000.0,
            issuer="https://api.example",
            checked_types=["access", "refresh"],
            claims=[],
            leeway=0.0,
        )
    )
    with server.client() as client:
        now = time.time()
        names = [secrets.token_hex(8) for _ in range(INSTANCES)]
        beat = b"%d 60 %s" % (now * 1000, heartbeat)
        client.hset("{revokebus}:instances", mapping=dict.fromkeys(names, beat))
        client.hset("{revokebus}:facts", mapping=dict.fromkeys(names, facts))


async def measure(server: HeldServer) -> None:
    """Ask some times, each time as a process that knows none of them."""
    settings = Settings(redis_url=server.url, secret_key=secrets.token_urlsafe(64))
    blocks, stalls, took, used = [], [], [], []
    with server.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 10_000)
        for number in range(ROUNDS):
            parts = StoreParts.of(settings, SystemClock())
            await parts.store.position()
            client.slowlog_reset()
            began, before = time.perf_counter(), server.used()
            stall = Stall()
            watching = asyncio.create_task(stall.watch())
            known = await parts.instances.list()
            took.append(time.perf_counter() - began)
            used.append(server.used() - before)
            watching.cancel()
            stalls.append(stall.longest)
            assert len(known.live) == INSTANCES
            blocks.append(max(each["duration"] for each in client.slowlog_get(10_000)) / 1000)
            await parts.close()
            progress((number + 1) / ROUNDS)
    of = f"{INSTANCES:,} instances"
    tell(most(f"longest block of Redis, {of} asked for", max(blocks), "ms", MOST_MILLISECONDS))
    tell(most(f"processor of Redis, {of} asked for", sorted(used)[ROUNDS // 2] * 1e3, "ms", None))
    what = f"longest stall of the loop that asks, {of}"
    tell(most(what, sorted(stalls)[ROUNDS // 2] * 1e3, "ms", None))
    tell(most(f"until all are known, {of}", sorted(took)[ROUNDS // 2] * 1e3, "ms", None))


@dataclass(slots=True)
class Stall:
    """The longest time for which nothing else ran on this loop, in seconds."""

    longest: float = 0.0

    async def watch(self) -> None:
        """Look until it is cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


if __name__ == "__main__":
    log_errors_only()
    main()
