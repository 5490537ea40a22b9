"""Many engines in one process, and how old their copies are."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from revokebus.engine.engine import Engine
from revokebus.settings.settings import Settings

_STARTED_AT_ONCE = 50
_LOOK = 0.1


@dataclass(slots=True)
class Watched:
    """What was seen while a fleet was watched.

    Attributes:
        seconds: For how long.
        proofs: How many ticks have proven a copy.
        oldest: The greatest age of a copy, in seconds.
        stale: How many copies were stale at some look.
        ages: The greatest age at each look, by the seconds since the beginning.
    """

    seconds: float
    proofs: int
    oldest: float = 0.0
    stale: int = 0
    ages: list[tuple[float, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Proofs a second."""
        return self.proofs / self.seconds


class Engines:
    """A fleet of engines; an async context manager that starts and ends them.

    Args:
        count: How many.
        url: Their Redis.
        changes: What differs from the default settings.
    """

    def __init__(self, count: int, url: str, **changes: Any) -> None:
        common = {"secret_key": secrets.token_urlsafe(64), "redis_url": url}
        settings = Settings(**{**common, "startup_timeout": 60, **changes})
        self.all = [Engine(settings) for _ in range(count)]

    async def __aenter__(self) -> Engines:
        for at in range(0, len(self.all), _STARTED_AT_ONCE):
            await asyncio.gather(*(each.start() for each in self.all[at : at + _STARTED_AT_ONCE]))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(each.close() for each in self.all))

    def proofs(self) -> int:
        """Return how many ticks have proven a copy so far."""
        return sum(each.counts.ticks["proven"] for each in self.all)

    def oldest(self) -> float:
        """Return the age of the copy that is the oldest, in seconds."""
        return max(each.status().staleness or 0.0 for each in self.all)

    async def watch(self, seconds: float) -> Watched:
        """Look at all of them for some time."""
        began, before = time.monotonic(), self.proofs()
        stale = set()
        seen = Watched(0.0, 0)
        while (passed := time.monotonic() - began) < seconds:
            seen.ages.append((passed, self.oldest()))
            stale |= {number for number, each in enumerate(self.all) if is_stale(each)}
            await asyncio.sleep(_LOOK)
        seen.seconds, seen.proofs = time.monotonic() - began, self.proofs() - before
        seen.oldest, seen.stale = max(age for _, age in seen.ages), len(stale)
        return seen

    async def until_younger(self, seconds: float, longest: float) -> float:
        """Return after how many seconds no copy is older than so many; infinite if not in time."""
        began = time.monotonic()
        while self.oldest() > seconds:
            if time.monotonic() - began > longest:
                return float("inf")
            await asyncio.sleep(_LOOK / 2)
        return time.monotonic() - began


def is_stale(engine: Engine) -> bool:
    """Return whether its copy decides nothing any more."""
    return engine.status().state != "fresh"
