"""What the parts of the engine share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from revokebus.clock import Clock, ExpiryClock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.engine.lifecycle import Lifecycle
    from revokebus.protocol.cut_offs import CutOffs
    from revokebus.protocol.fleet import Fleet
    from revokebus.replication.backend import Backend
    from revokebus.settings.settings import Settings
    from revokebus.telemetry.counters import Counters
    from revokebus.tokens.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Parts:
    """The things that there is one of in each bus.

    Attributes:
        settings: What was set.
        clock: Tells the wall time, and how much time has passed.
        expiry_clock: The one that the copy goes by.
        cut_offs: The latest cut-off that is known.
        fleet: What time it is in the fleet, and how long tokens live there.
        lifecycle: Whether the bus runs, and where.
        verifier: Says whether a token is genuine.
        denylist: The copy.
        freshness: When the copy was proven complete.
        counters: What was counted.
        backend: Keeps the copy fresh, and revocations durable.
    """

    settings: Settings
    clock: Clock
    expiry_clock: ExpiryClock
    cut_offs: CutOffs
    fleet: Fleet
    lifecycle: Lifecycle
    verifier: Verifier
    denylist: Denylist
    freshness: Freshness
    counters: Counters
    backend: Backend
