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


LOOKED_EVERY = 0.25
"""After how many seconds, at most, a tick that goes on shows that this process runs."""


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
        known: Set when a tick has proven the copy, or failed to, and then replaced.
        refused_at: When Redis last accepted no writes, in elapsed seconds. Instances may have
            proven their copies until then, and sent no heartbeat.
        sees_restarts: Whether Redis says which process it is; None before the first tick.
        wants_primary: Whether the next tick must ask the primary, and no replica.
        was_suspended: Whether this process did not run in the midst of the tick that goes on, or
            that ended last: what it has asked is answered too late to prove anything.
    """

    clock: Clock
    counters: Counters
    continuity: Continuity = field(default_factory=Continuity)
    conditions: Conditions = field(default_factory=Conditions)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)
    on_read: list[Callable[[], None]] = field(default_factory=list)
    known: asyncio.Event = field(default_factory=asyncio.Event)
    refused_at: float = -math.inf
    sees_restarts: bool | None = None
    wants_primary: bool = False
    was_suspended: bool = False
    _due_at: float = math.inf
    _late_since: float = -math.inf

    def longest_wait(self, patience: float) -> float:
        """Return for how many seconds to wait for a tick that comes too late; 0 where none does.

        It comes too late where this process did not run: it was suspended, or its event loop was
        blocked. One that was due and has not begun is then begun at once; one that was in its midst
        is followed by another, which is the one to wait for.

        Args:
            patience: For how many seconds after its beginning a tick is waited for at most.
        """
        now = self.clock.elapsed()
        if self._is_past_due():
            self.wake.set()  # timers of a loop may stand still where the machine was suspended
            return patience
        return max(0.0, self._late_since + patience - now)

    def ask_primary(self) -> None:
        """Have the log read at once, at the primary and not at a replica."""
        self.wants_primary = True
        self.wake.set()

    def _is_past_due(self) -> bool:
        return self.clock.elapsed() > self._due_at + LOOKED_EVERY

    def begin_tick(self) -> None:
        """Note that a tick begins; `look` is to be called until it ends."""
        is_late = self.was_suspended or self._is_past_due()
        self._late_since = self.clock.elapsed() if is_late else -math.inf
        self.was_suspended = False
        self._due_at = self.clock.elapsed() + LOOKED_EVERY

    def look(self) -> None:
        """Note that this process runs while a tick goes on: called every `LOOKED_EVERY` seconds."""
        now = self.clock.elapsed()
        if self._is_past_due():
            self.was_suspended, self._late_since = True, now
        self._due_at = now + LOOKED_EVERY

    def know(self) -> None:
        """Note that a tick has proven the copy, or failed to."""
        self.look()
        if self.was_suspended:
            return  # by what was asked before
        self._late_since = -math.inf
        self.known.set()
        self.known = asyncio.Event()

    def end_tick(self, due_at: float) -> None:
        """Note that a tick has ended, and when the next one is due, in elapsed seconds."""
        self.know()
        self._due_at = due_at

    def notify_readers(self) -> None:
        """Notify all that wait until the log was read to its end."""
        self.read.set()
        self.read = asyncio.Event()
        for listener in self.on_read:
            listener()
