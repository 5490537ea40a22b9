"""Sends heartbeats: seldom, because each of them goes to replicas and to disk, or when asked."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from revokebus.protocol.heartbeat import (
    HEARTBEAT_SECONDS,
    LONGEST_HEARTBEAT_SECONDS,
    Facts,
    Heartbeat,
    encode_facts,
    encode_heartbeat,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from revokebus.clock import Clock
    from revokebus.protocol.continuity import Position


@dataclass(frozen=True, slots=True)
class Told:
    """A heartbeat.

    Attributes:
        heartbeat: See `encode_heartbeat`.
        facts: What does not change, see `encode_facts`; written where Redis does not know it.
    """

    heartbeat: bytes
    facts: bytes


class Register(Protocol):
    """Where heartbeats go; `Instances` is one."""

    async def beat(self, heartbeat: bytes, facts: bytes) -> None:
        """Write one."""


@dataclass(eq=False, kw_only=True)
class Heartbeats:
    """The heartbeats of this instance.

    Attributes:
        clock: Tells when the next one is due.
        register: Where they go.
        facts: What does not change.
        tell: Returns how the copy is, which includes the log up to a position.
    """

    clock: Clock
    register: Register
    facts: Facts
    tell: Callable[[Position], Heartbeat]
    _due_at: float = field(default=-math.inf, init=False)

    def due(self, position: Position) -> Told | None:
        """Return what is to be sent now; None where it is not yet time for it."""
        return self._told(position) if self.clock.elapsed() >= self._due_at else None

    def renew(self) -> None:
        """Send one with the next tick: Redis may have lost the last one, or count it no more."""
        self._due_at = -math.inf

    def sent(self, at: float) -> None:
        """Note that one was written, which was sent at that moment, in elapsed seconds."""
        # With jitter, so that a fleet that was started at once does not send them at once.
        pause = random.uniform(HEARTBEAT_SECONDS, LONGEST_HEARTBEAT_SECONDS)  # noqa: S311 - not a secret
        self._due_at = at + pause

    async def beat(self, position: Position) -> None:
        """Send a heartbeat, due or not.

        Raises:
            StoreError: It was not written.
        """
        now, told = self.clock.elapsed(), self._told(position)
        await self.register.beat(told.heartbeat, told.facts)
        self.sent(now)

    def _told(self, position: Position) -> Told:
        return Told(encode_heartbeat(self.tell(position)), encode_facts(self.facts))
