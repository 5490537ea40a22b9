"""For how long no copy counts as proven after Redis, or what it holds, was found to be new."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from revokebus.connection.primary import LONGEST_WAIT
from revokebus.errors import UnsettledError
from revokebus.protocol.heartbeat import seconds_between_ticks

if TYPE_CHECKING:
    from revokebus.settings.settings import Settings

LONGEST_PAUSE = 1.1
"""The longest time between the starts of two ticks, in intervals."""

TURN_MILLISECONDS = 1_000
"""For how long an instance has the turn to write back, unless it asks for more."""

LATE_SECONDS = 1.5
"""How many seconds a replica may be behind; otherwise the primary is asked."""

_TICK_DEADLINE = 0.5
_SHARE_OF_REPLICA = 1 / 2
_PAUSE_AFTER_FAILURE, _LONGEST_SPREAD, _CONNECTED_PER_SECOND = 0.5, 1.0, 2_000


def tick_interval(settings: Settings, instances: int) -> float:
    """Return how many seconds apart the ticks of this instance start, of so many as there are."""
    return seconds_between_ticks(settings.tick_interval, settings.max_staleness, instances)


def pause_after_failure(instances: int) -> float:
    """Return for how many seconds an instance pauses at most after a tick that has failed.

    All of a fleet fail at the same moment, and come back one after another.
    """
    return _PAUSE_AFTER_FAILURE + min(_LONGEST_SPREAD, instances / _CONNECTED_PER_SECOND)


def patience(settings: Settings) -> float:
    """Return for how many seconds the answer to a tick is waited for: as long as it proves much."""
    return settings.max_staleness / 2


def tick_deadline(settings: Settings) -> float:
    """Return after how many seconds a tick that has no answer is looked into."""
    return min(settings.redis_timeout, max(settings.tick_interval, _TICK_DEADLINE))


def replica_deadline(settings: Settings) -> float:
    """Return for how many seconds the answer of a replica is waited for."""
    return max(_TICK_DEADLINE, _SHARE_OF_REPLICA * settings.redis_timeout)


def replica_delay(settings: Settings) -> float:
    """Return how many seconds later this instance notices what is new, if it reads from a replica.

    That may be so far behind, and no further.
    """
    return LATE_SECONDS + replica_deadline(settings) if settings.reads_from_replica else 0.0


def settling_milliseconds(settings: Settings, instances: int = 1) -> int:
    """Return after how long all have noticed: the longest pause, and a tick that hangs.

    Where Sentinels or the cluster are asked who is primary, a tick may wait for them first. One
    that reads from a replica may not be told by that.
    """
    pause = max(LONGEST_PAUSE * tick_interval(settings, instances), pause_after_failure(instances))
    wait = LONGEST_WAIT * settings.redis_timeout if settings.asks_for_primary else 0.0
    late = replica_delay(settings)
    return math.ceil(1000 * (pause + wait + tick_deadline(settings) + late))


def unsettled_error(left: int, repairing: int) -> UnsettledError | None:
    """Return why the data must not be relied upon, by the answer of a script; None if they may.

    Args:
        left: For how many milliseconds it must not be relied upon.
        repairing: Whether another instance is writing back, as 1 or 0.
    """
    if left > 0:
        return UnsettledError(
            "Redis, or what it holds, is new; instances that know more get a moment to write it "
            "back",
            seconds=left / 1000,
        )
    if repairing:
        return UnsettledError("another instance is writing back what Redis has lost")
    return None
