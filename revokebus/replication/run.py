"""What belongs to one start of the replication."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.protocol.continuity import Continuity
from revokebus.telemetry.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from revokebus.clock import Clock
    from revokebus.telemetry.counters import Counters


@dataclass(eq=False, slots=True)
class Run:
    """The state that the tasks of one start share, on one event loop.

    Attributes:
        clock: Tells how much time has passed.
        counters: Counts what happens.
        continuity: Where the copy stands in the log.
        conditions: What is wrong at the moment.
        wake: Set where the log should be read at once.
        decided: Set once the copy was proven, or Redis refused.
        read: Set when the log was read to its end, whether that proves the copy or not, and then
            replaced.
        on_read: Are called at the same moments.
    """

    clock: Clock
    counters: Counters
    continuity: Continuity = field(default_factory=Continuity)
    conditions: Conditions = field(default_factory=Conditions)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)
    on_read: list[Callable[[], None]] = field(default_factory=list)

    def notify_readers(self) -> None:
        """Notify all that wait until the log was read to its end."""
        self.read.set()
        self.read = asyncio.Event()
        for listener in self.on_read:
            listener()
