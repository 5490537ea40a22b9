"""What belongs to one start of the replication."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.protocol.continuity import Continuity
from revokebus.telemetry.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from revokebus.clock import Clock
    from revokebus.telemetry.counters import Counters


_LATE = 0.25


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
        ticked: Set when a tick has ended, however, and then replaced.
    """

    clock: Clock
    counters: Counters
    continuity: Continuity = field(default_factory=Continuity)
    conditions: Conditions = field(default_factory=Conditions)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)
    on_read: list[Callable[[], None]] = field(default_factory=list)
    ticked: asyncio.Event = field(default_factory=asyncio.Event)
    _due_at: float = math.inf
    _is_late: bool = False

    @property
    def is_overdue(self) -> bool:
        """Whether a tick has not begun that was due, or goes on that has begun too late.

        Then this process did not run: it was suspended, or its event loop was blocked.
        """
        return self._is_late or self._is_past_due()

    def _is_past_due(self) -> bool:
        return self.clock.elapsed() > self._due_at + _LATE

    def begin_tick(self) -> None:
        """Note that a tick begins."""
        self._is_late, self._due_at = self._is_past_due(), math.inf

    def end_tick(self, due_at: float) -> None:
        """Note that a tick has ended, and when the next one is due, in elapsed seconds."""
        self._is_late, self._due_at = False, due_at
        self.ticked.set()
        self.ticked = asyncio.Event()

    def notify_readers(self) -> None:
        """Notify all that wait until the log was read to its end."""
        self.read.set()
        self.read = asyncio.Event()
        for listener in self.on_read:
            listener()
