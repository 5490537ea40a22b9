"""A deployment: many instances start at once, and what that does to those that run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from itertools import islice
from typing import Any
from unittest import mock

from load_tests.fleet.held import HeldServer
from load_tests.fleet.ticks import most
from load_tests.measure import Row, log_errors_only, percentile, progress, tell
from load_tests.revocations import LOG, revocations
from revokebus.clock import SystemClock
from revokebus.errors import StoreError
from revokebus.protocol.wire import encode_payload
from revokebus.settings.settings import Settings
from revokebus.store import listing
from revokebus.store.parts import StoreParts

SHARE = 0.2
"""Of a core, that the server gets: so many starts stand for five times as many."""
ENTRIES = 100_000
STARTS = 200
BAR = 2.0
_BEFORE, _PAUSE, _AT_ONCE, _LONGEST = 5.0, 0.02, 1000, 120.0


def main() -> None:
    """Tell how long ticks take at rest, while all list at once, and while few do at a time."""
    asyncio.run(measure())


async def measure() -> None:
    """Begin with the ticks alone."""
    with HeldServer() as server:
        write(server)
        settings = Settings(redis_url=server.url, secret_key=secrets.token_urlsafe(64))
        with server.held(SHARE):
            rest = await ticks_beside(settings, asyncio.create_task(asyncio.sleep(_BEFORE)))
            progress(0.2)
            with mock.patch.object(listing, "MOST_AT_ONCE", STARTS):
                all_at_once, took_all = await starts(settings)
            progress(0.6)
            some, took_some = await starts(settings)
    of = f"while {STARTS} instances start with {ENTRIES:,} revocations each"
    note = f"{SHARE:.0%} of a core; at rest {1000 * rest:.1f} ms"
    for how, p99, bar in (("all at once", all_at_once, None), ("as they do", some, BAR)):
        ratio = p99 / rest
        what = f"p99 of a tick {of}, {how}"
        tell(Row(what, "at rest", 1000 * p99, 1000 * rest, "ms", ratio, bar, "most", note))
    tell(most(f"until the last has listed, {STARTS} at once", took_all, "s", None))
    tell(most(f"until the last has listed, {listing.MOST_AT_ONCE} at a time", took_some, "s", None))


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


async def starts(settings: Settings) -> tuple[float, float]:
    """Return the 99th percentile of a tick beside so many starts, and how long those take."""
    began = time.perf_counter()
    listings = asyncio.gather(*(list_all(settings) for _ in range(STARTS)))
    p99 = await ticks_beside(settings, listings)
    return p99, time.perf_counter() - began


async def list_all(settings: Settings) -> None:
    """Ask for what an instance asks for that starts, and do nothing with it."""
    parts = StoreParts.of(settings, SystemClock())
    try:
        async with asyncio.timeout(_LONGEST):
            while not await listed(parts):  # noqa: ASYNC110 - it is another who has to end
                await asyncio.sleep(random.uniform(0.25, 0.5))
    finally:
        await parts.close()


async def listed(parts: StoreParts) -> bool:
    """Return whether everything was listed, or others do at the moment."""
    position = await parts.store.position()
    with contextlib.suppress(StoreError):
        async with parts.listing.turn(may_wait=True) as log_is_better:
            assert log_is_better
            async for _ in parts.listing.history(position):
                pass
            return True
    return False


async def ticks_beside(settings: Settings, work: asyncio.Future[Any]) -> float:
    """Return the 99th percentile of a tick's time while something else is done, in seconds."""
    parts, took = StoreParts.of(settings, SystemClock()), []
    try:
        position = await parts.store.position()
        await parts.instances.beat(b"f 1 e - 1 1 0", b"{}")
        while not work.done():
            began = time.perf_counter()
            await parts.store.read(position)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(_PAUSE)
        await work
    finally:
        await parts.close()
    return percentile(took, 99)


if __name__ == "__main__":
    log_errors_only()
    main()
