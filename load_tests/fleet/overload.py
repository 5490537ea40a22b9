"""A Redis that gets more ticks than it can answer, and one that is away for a moment."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from pathlib import Path

from load_tests.fleet.engines import Engines, Watched
from load_tests.fleet.held import HeldServer, TlsServer
from load_tests.fleet.ticks import most
from load_tests.measure import Curve, Row, log_errors_only, progress, tell

SHARE = 0.02
"""Of a core, that the server gets: so many instances stand for fifty times as many."""
MANY = 500
"""So many instances that the server cannot answer all of their ticks."""
INTERVAL = 0.5
LOADS = (0.8, 1.5, 4.0)
SECONDS = 15.0
SETTLED = 6.0
LEAST_GOODPUT = 0.9
PAUSES = (1.0, 3.0)
BOUND = 5.0
YOUNG = 2.0


def main() -> None:
    """Tell how much of what it can do it does, and how old copies become."""
    asyncio.run(measure())


async def measure() -> None:
    """Learn what the server can do at most, then load it with more and more of that."""
    with HeldServer() as server:
        capacity = (await loaded(server, MANY)).rate
    progress(0.1)
    lines = {}
    for number, load in enumerate(LOADS):
        count = round(load * capacity * INTERVAL)
        with HeldServer() as server:
            seen = await loaded(server, count)
        progress(0.1 + 0.2 * (number + 1))
        lines[f"{load:g} times what it can do"] = seen.ages
        of = f"{load:g} times what Redis can do"
        goodput = seen.rate / min(capacity, count / INTERVAL)
        bar = LEAST_GOODPUT if load >= max(LOADS) else None
        what = f"proofs, of those that are possible, at {of}"
        note = f"{count} instances, {SHARE:.0%} of a core: {capacity:.0f} ticks a second"
        tell(Row(what, "", goodput, None, "", goodput, bar, "least", note))
        tell(most(f"oldest copy at {of}", seen.oldest, "s", None))
        tell(most(f"stale copies at {of}", float(seen.stale), "", 0.0))
    tell(Curve("overload", "The oldest copy", "seconds", "seconds", lines))
    count = round(LOADS[0] * capacity * INTERVAL)
    for number, pause in enumerate(PAUSES):
        with HeldServer() as server:
            took, stale = await paused(server, server.url, count, pause)
        progress(0.8 + 0.05 * number)
        tell_of_pause(f"{pause:g} s", took, stale)
    if shutil.which(TlsServer.BINARY) is None:
        missing = f"over TLS, which needs {TlsServer.BINARY}"
        tell(Row(missing, "", 0.0, None, "", 0.0, None, "least", "not measured"))
        return
    for number, pause in enumerate(PAUSES):
        with tempfile.TemporaryDirectory() as folder, TlsServer(Path(folder)) as server:
            took, stale = await paused(server, server.tls_url, count, pause)
        progress(0.9 + 0.05 * number)
        tell_of_pause(f"{pause:g} s, over TLS", took, stale)


def tell_of_pause(pause: str, took: float, stale: int) -> None:
    """Tell what became of a fleet whose server was away."""
    what = f"until all copies are young again after Redis was away for {pause}"
    tell(most(what, took, "s", BOUND))
    what = f"stale copies after Redis was away for {pause}, max_staleness {BOUND:g} s"
    tell(most(what, float(stale), "", 0.0))


async def loaded(server: HeldServer, count: int) -> Watched:
    """Return what becomes of so many instances."""
    async with Engines(count, server.url) as fleet:
        with server.held(SHARE):
            await fleet.watch(SETTLED)
            return await fleet.watch(SECONDS)


async def paused(server: HeldServer, url: str, count: int, pause: float) -> tuple[float, int]:
    """Return after how many seconds a fleet has recovered, and how many copies were stale."""
    async with Engines(count, url, max_staleness=BOUND) as fleet:
        with server.held(SHARE):
            await fleet.watch(SETTLED)
            server.freeze()
            await asyncio.sleep(pause)
            server.thaw()
            watching = asyncio.create_task(fleet.watch(2 * BOUND))
            took = await fleet.until_younger(YOUNG, 4 * BOUND)
            seen = await watching
            return took if math.isfinite(took) else 4 * BOUND, seen.stale


if __name__ == "__main__":
    log_errors_only()
    main()
