"""A deployment: many instances start at once, and what that does to those that run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING
from unittest import mock

from load_tests.fleet.replica import Two
from load_tests.fleet.ticks import most
from load_tests.measure import Row, log_errors_only, percentile, progress, tell
from load_tests.revocations import LOG, revocations
from revokebus.clock import SystemClock
from revokebus.errors import StoreError
from revokebus.protocol.wire import encode_payload
from revokebus.settings.settings import Settings
from revokebus.store import listing
from revokebus.store.listing import Listing
from revokebus.store.parts import StoreParts
from revokebus.testing.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load_tests.fleet.held import HeldServer

SHARE = 0.2
"""Of a core, that the server gets: so many starts stand for five times as many."""
ENTRIES = 100_000
STARTS = 100
PERIOD_MICROSECONDS = 5_000
BAR = 2.0
_BEFORE, _PAUSE, _AT_ONCE, _LONGEST = 5.0, 0.02, 1000, 120.0


def main() -> None:
    """Tell how long ticks take at rest, while all list at once, and while few do at a time."""
    if len(sys.argv) > 1:
        asyncio.run(start_all(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
        return
    few = listing.MOST_AT_ONCE
    with Two() as two:
        server, replica = two.primary, two.replica
        write(server)
        wait_until(lambda: is_copied(server, replica), "the replica has everything")
        settings = Settings(redis_url=server.url, secret_key=secrets.token_urlsafe(64))
        with server.held(SHARE, PERIOD_MICROSECONDS), replica.held(SHARE, PERIOD_MICROSECONDS):
            rest = asyncio.run(ticks_beside(settings, ["sleep", str(_BEFORE)]))
            progress(0.1)
            all_at_once, took_all = beside_starts(settings, STARTS, "primary")
            progress(0.4)
            some, took_some = beside_starts(settings, few, "primary")
            progress(0.7)
            elsewhere, took_elsewhere = beside_starts(settings, few, replica.url)
    of = f"while {STARTS} instances start with {ENTRIES:,} revocations each"
    note = f"{SHARE:.0%} of a core; at rest {1000 * rest:.1f} ms"
    cases = (
        ("all at once", all_at_once, None),
        ("as they do", some, BAR),
        ("as they do, at a replica", elsewhere, BAR),
    )
    for how, p99, bar in cases:
        what = f"p99 of a tick {of}, {how}"
        ratio = p99 / rest
        tell(Row(what, "at rest", 1000 * p99, 1000 * rest, "ms", ratio, bar, "most", note))
    tell(most(f"until the last has listed, {STARTS} at once", took_all, "s", None))
    tell(most(f"until the last has listed, {few} at a time", took_some, "s", None))
    tell(
        most(f"until the last has listed, {few} at a time, at a replica", took_elsewhere, "s", None)
    )


def is_copied(primary: HeldServer, replica: HeldServer) -> bool:
    """Return whether a replica has as many keys as its primary."""
    with primary.client() as one, replica.client() as other:
        return bool(one.dbsize() == other.dbsize())


def write(server: HeldServer) -> None:
    """Write a log that has everything."""
    with server.client() as client:
        then = int((time.time() - 366 * 86_400) * 1000)
        client.xadd(LOG, {"r": encode_payload([])}, id=f"{then}-0")
        made = revocations(ENTRIES)
        while some := list(islice(made, _AT_ONCE)):
            pipe = client.pipeline(transaction=False)
            for each in some:
                payload = encode_payload([each])
                pipe.xadd(LOG, {"r": payload})
                pipe.set(f"{{revokebus}}:r:{each.claim}:{each.value}", payload)
            pipe.execute()


def beside_starts(settings: Settings, at_once: int, read_from: str) -> tuple[float, float]:
    """Return the 99th percentile of a tick beside so many starts, and how long those take."""
    # In a process of their own, or ticks would wait for its event loop.
    command = [sys.executable, "-m", "load_tests.fleet.starts", str(settings.redis_url)]
    began = time.perf_counter()
    p99 = asyncio.run(ticks_beside(settings, [*command, str(at_once), read_from]))
    return p99, time.perf_counter() - began


async def start_all(url: str, at_once: int, read_from: str) -> None:
    """List everything, as so many instances do that start at the same moment."""
    settings = Settings(redis_url=url, secret_key=secrets.token_urlsafe(64), read_from=read_from)
    with mock.patch.object(listing, "MOST_AT_ONCE", at_once):
        await asyncio.gather(*(list_all(settings) for _ in range(STARTS)))


async def list_all(settings: Settings) -> None:
    """Ask for what an instance asks for that starts, and do nothing with it."""
    parts = StoreParts.of(settings, SystemClock())
    records = Listing(parts.reading, parts.names, settings, parts.requests)
    try:
        async with asyncio.timeout(_LONGEST):
            while not await listed(parts, records):  # noqa: ASYNC110 - it is another who has to end
                await asyncio.sleep(random.uniform(0.25, 0.5))
    finally:
        await parts.close()


async def listed(parts: StoreParts, records: Listing) -> bool:
    """Return whether everything was listed, or others do at the moment."""
    position = await parts.store.position()
    with contextlib.suppress(StoreError):
        async with records.turn(may_wait=True) as log_is_better:
            assert log_is_better
            async for _ in records.history(position):
                pass
            return True
    return False


async def ticks_beside(settings: Settings, command: Sequence[str]) -> float:
    """Return the 99th percentile of a tick's time while a command runs, in seconds."""
    parts, took = StoreParts.of(settings, SystemClock()), []
    try:
        position = await parts.store.position()
        await parts.instances.beat(b"f 1 e - 1 1 0", b"{}")
        process = await asyncio.create_subprocess_exec(*command)
        ending = asyncio.create_task(process.wait())
        while not ending.done():
            began = time.perf_counter()
            await parts.store.read(position)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(_PAUSE)
        assert await ending == 0
    finally:
        await parts.close()
    return percentile(took, 99)


if __name__ == "__main__":
    log_errors_only()
    main()
