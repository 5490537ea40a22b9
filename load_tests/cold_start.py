"""A start with a million live records: its time, its memory, and its longest stall."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import secrets
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from load_tests.measure import absolute, at_most, log_errors_only, medians, progress, tell
from load_tests.revocations import LOG, revocations
from load_tests.stalls import Stall, longest_stall
from revokebus.engine.engine import Engine
from revokebus.protocol.wire import encode_payload
from revokebus.settings.settings import Settings
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    import redis

COUNT = 1_000_000
ROUNDS = 3
BAR = 1.5
STALL_BAR_MS = 10.0
MEMORY_BAR = 32.0
_AT_ONCE = 1000
_META = "{revokebus}:meta"
_LONG_AGO = 60 * 86_400


def write_log(client: redis.Redis) -> None:
    """Write the log of a service that has run for two months, a row for each revocation.

    The first row is what an empty log begins with; its age says that nothing is missing. The
    records beside it are not needed for a start from the log, but make the database as large.
    """
    then = int((time.time() - _LONG_AGO) * 1000)
    client.xadd(LOG, {"r": encode_payload([])}, id=f"{then}-0")
    server = client.info("server")["run_id"]
    meta = {"epoch": secrets.token_hex(16), "format": "2", "began": "1", "server": server}
    for name, value in meta.items():
        client.hset(_META, name, value)
    made = revocations(COUNT)
    for done in range(0, COUNT, _AT_ONCE):
        pipe = client.pipeline(transaction=False)
        for revocation in islice(made, _AT_ONCE):
            payload = encode_payload([revocation])
            pipe.xadd(LOG, {"r": payload})
            pipe.set(f"{{revokebus}}:r:{revocation.claim}:{revocation.value}", payload)
        pipe.execute()
        progress(0.6 * done / COUNT)


async def read_and_discard(url: str) -> float:
    """Return how long redis-py takes to read the log, a thousand rows at a time, in seconds."""
    client, after = Redis.from_url(url), "-"
    began = time.perf_counter()
    while True:
        rows: Any = await client.xrange(LOG, after, "+", count=_AT_ONCE)
        if len(rows) < _AT_ONCE:
            break
        after = f"({rows[-1][0].decode()}"
    took = time.perf_counter() - began
    await client.aclose()
    return took


async def start(url: str) -> dict[str, float]:
    """Start an instance and return what that took."""
    gc.collect()
    before = resident()
    settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url=url, startup_timeout=120)
    engine = Engine(settings)
    async with longest_stall() as stall:
        began = time.perf_counter()
        await engine.start()
        took = time.perf_counter() - began
    assert engine.status().state == "fresh"
    entries = engine.status().entries
    assert entries == COUNT, entries
    gc.collect()
    result = {
        "seconds": took,
        "stall": stall.longest,
        "collection": stall.collection,
        "bytes": (resident() - before) / entries,
    }
    await engine.close()
    return result


def resident() -> int:
    """Return how much memory this process has, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def started(url: str) -> dict[str, float]:
    """Start an instance in a process of its own, whose memory is then measured."""
    command = [sys.executable, "-m", "load_tests.cold_start", url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
    answer: dict[str, float] = json.loads(printed.splitlines()[-1])
    return answer


def main() -> None:
    """Measure, or be the process that is measured."""
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(start(sys.argv[1]))))
        return
    with RedisServer() as server:
        with server.client() as client:
            write_log(client)
        measure(server.url)


def measure(url: str) -> None:
    """Compare with reading the same log."""
    answers: list[dict[str, float]] = []

    def ours() -> float:
        answers.append(started(url))
        return answers[-1]["seconds"]

    took = medians(ROUNDS, {"ours": ours, "redis-py": lambda: asyncio.run(read_and_discard(url))})
    what = f"cold start with {COUNT:,} live records"
    against = "redis-py reading the same log"
    tell(at_most(what, against, took["ours"], took["redis-py"], "s", BAR))
    longest = max(answers, key=lambda answer: answer["stall"])
    stall = Stall(longest["stall"], longest["collection"])
    what = f"longest stall while loading {COUNT:,}"
    tell(absolute(what, stall.longest * 1000, "ms", STALL_BAR_MS, stall.note))
    memory = max(answer["bytes"] for answer in answers)
    note = "exact: no id is cut short, so no token is refused by mistake"
    tell(absolute(f"memory for a record at {COUNT:,}", memory, "B", MEMORY_BAR, note))


if __name__ == "__main__":
    log_errors_only()
    main()
