"""For how long the event loop does nothing else: while the copy grows, is swept, is written to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from load_tests.measure import absolute, log_errors_only, progress, tell
from load_tests.revocations import revocations
from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.engine.engine import Engine
from revokebus.replication.ticker import MOST_SWEPT_PER_TICK
from revokebus.settings.settings import Settings
from revokebus.testing import ManualClock, RedisServer
from revokebus.testing.process import ChildProcess

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

COUNT = 1_000_000
A_SECOND = 10_000
SECONDS = 10
BAR_MS = 10.0
_LOOKED_AT_EVERY = 0.0005
_AT_ONCE = 200
_LEAST_RATE = 0.9
_MOST_PRINTED = 2000


@dataclass
class Stall:
    """The longest time that the event loop was held up, in seconds.

    Attributes:
        longest: That time.
        collection: The longest that Python's collector took of it.
    """

    longest: float = 0.0
    collection: float = 0.0

    @property
    def note(self) -> str:
        """What of it is Python's collector."""
        return f"Python's collector: {1000 * self.collection:.1f} ms at most"


@contextlib.asynccontextmanager
async def longest_stall() -> AsyncIterator[Stall]:
    """Note for how long a task that sleeps for half a millisecond is kept waiting.

    In processor time of this thread: what others do on the machine meanwhile is no stall of ours.
    """
    stall = Stall()

    async def look() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(_LOOKED_AT_EVERY)
            now = time.thread_time()
            stall.longest = max(stall.longest, now - before)
            before = now

    began = 0.0

    def collect(phase: str, _: object) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
        else:
            stall.collection = max(stall.collection, time.thread_time() - began)

    task = asyncio.create_task(look())
    gc.callbacks.append(collect)
    try:
        await asyncio.sleep(0.05)
        stall.longest = stall.collection = 0.0
        yield stall
    finally:
        gc.callbacks.remove(collect)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def grow_and_sweep() -> tuple[Stall, Stall]:
    """Return the longest stall while the copy grows by chunks, and while it is swept away."""
    clock = ManualClock()
    denylist = Denylist(ExpiryClock(clock))
    made = revocations(COUNT)
    async with longest_stall() as growing:
        while some := list(islice(made, _AT_ONCE)):
            denylist.add_all(some)
            await asyncio.sleep(0)
    clock.advance(86_400)
    async with longest_stall() as sweeping:
        while len(denylist):
            denylist.sweep(MOST_SWEPT_PER_TICK)
            await asyncio.sleep(0)
    return growing, sweeping


class Writer(ChildProcess):
    """A process that revokes so many tokens a second."""

    def __init__(self, url: str, a_second: int) -> None:
        self._url = url
        self._a_second = a_second
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "load_tests.writer", self._url, str(self._a_second)]
        self._spawn(command, log=self._log)

    def check_rate(self, rate: float) -> None:
        """Check that it has revoked as many as it should.

        Raises:
            RuntimeError: It has not; with what it printed.
        """
        if rate < _LEAST_RATE * self._a_second:
            printed = os.pread(self._log.fileno(), _MOST_PRINTED, 0).decode(errors="replace")
            raise RuntimeError(
                f"{rate:,.0f} revocations a second were written, not {self._a_second:,}"
                + (f"; the writer printed: {printed}" if printed else "")
            )

    def _end(self, number: signal.Signals) -> None:
        super()._end(number)
        self._log.close()


async def apply() -> Stall:
    """Return the longest stall of an instance while others revoke ten thousand tokens a second."""
    with RedisServer() as server:
        settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url=server.url)
        async with Engine(settings) as engine:
            with Writer(server.url, A_SECOND) as writer:
                while engine.status().entries < A_SECOND:  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0.01)
                before, began = engine.status().entries, time.perf_counter()
                async with longest_stall() as stall:
                    await asyncio.sleep(SECONDS)
                rate = (engine.status().entries - before) / (time.perf_counter() - began)
                writer.check_rate(rate)
    return stall


def main() -> None:
    """Measure all three."""
    growing, sweeping = asyncio.run(grow_and_sweep())
    tell_of(f"longest stall while growing to {COUNT:,}", growing)
    tell_of(f"longest stall while sweeping {COUNT:,}", sweeping)
    progress(0.5)
    tell_of(f"longest stall while applying {A_SECOND:,} a second", asyncio.run(apply()))


def tell_of(what: str, stall: Stall) -> None:
    """Tell of a stall."""
    tell(absolute(what, stall.longest * 1000, "ms", BAR_MS, stall.note))


if __name__ == "__main__":
    log_errors_only()
    main()
