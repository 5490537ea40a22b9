"""What an instance tells of itself with each tick, for whoever looks after the fleet."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from revokebus.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable

from revokebus.protocol.wire import decode_entry_id
from revokebus.results import InstanceStatus, State

VERSION = version("revokebus")
"""Of this library."""

_SILENT_TICKS = 4
_SILENT_LEAST = 2.0
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What stands in a heartbeat.

    Attributes:
        version: Of RevokeBus.
        host: The machine's name.
        pid: The process.
        state: That of its copy.
        staleness: Seconds since its copy was proven complete; None before the first time.
        bound: What ``max_staleness`` is there, in seconds.
        accepts_stale: Whether ``on_stale`` is ``accept`` there.
        interval: What ``tick_interval`` is there.
        longest_life: For how many seconds a token may live there.
        issuer: The ``iss`` of tokens that are made there; empty where they have none.
        checked_types: The types of token that are looked up there.
        claims: The claims that tokens can be revoked by there, beside the usual ones.
        epoch: The data set that it reads; empty before it reads one.
        position: The last entry of the log that its copy includes; None likewise.
        entries: How many revocations its copy holds.
        complete: Whether it has had room for all of them.
        leeway: What ``leeway`` is there, in seconds; None where an older version does not say.
    """

    version: str
    host: str
    pid: int
    state: State
    staleness: float | None
    bound: float
    accepts_stale: bool
    interval: float
    longest_life: float
    issuer: str
    checked_types: list[str]
    claims: list[str]
    epoch: str
    position: str | None
    entries: int
    complete: bool
    leeway: float | None = None


UNREADABLE = Heartbeat(
    version="unknown",
    host="unknown",
    pid=0,
    state="starting",
    staleness=None,
    bound=math.inf,
    accepts_stale=False,
    interval=0.0,
    longest_life=0.0,
    issuer="",
    checked_types=[],
    claims=[],
    epoch="",
    position=None,
    entries=0,
    complete=True,
)
"""What is taken for the beat of an instance whose own cannot be read."""

ENDED = b"ended"
"""What an instance leaves in place of a beat: it accepts no token any more."""

_HEARTBEAT = TypeAdapter(Heartbeat)


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return `heartbeat` in JSON."""
    return json.dumps(asdict(heartbeat)).encode()


def decode_heartbeat(text: bytes) -> Heartbeat:
    """Return the beat that `text` is.

    Raises:
        WireError: It is none; another version of RevokeBus may have written it.
    """
    if len(text) > _MAX_BYTES:
        raise WireError("too_large")
    try:
        heartbeat = _HEARTBEAT.validate_json(text, strict=True)
        if heartbeat.position is not None:
            decode_entry_id(heartbeat.position.encode())
    except (ValidationError, UnicodeError):
        raise WireError("beat") from None
    if not all(
        map(
            math.isfinite,
            (
                heartbeat.staleness or 0.0,
                heartbeat.bound,
                heartbeat.interval,
                heartbeat.longest_life,
                heartbeat.leeway or 0.0,
            ),
        )
    ):
        raise WireError("beat")
    return heartbeat


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, as Redis knows it.

    Attributes:
        name: What it is called.
        heartbeat: Its last heartbeat.
        silence: Seconds since then, by Redis's clock.
    """

    name: str
    heartbeat: Heartbeat
    silence: float

    def has(self, epoch: str, entry: tuple[int, int]) -> bool:
        """Return whether it refuses what `entry` revokes, by its copy or by asking Redis."""
        position, heartbeat = self.heartbeat.position, self.heartbeat
        return (
            position is not None
            and (heartbeat.complete or not heartbeat.accepts_stale)
            and epoch == self.heartbeat.epoch
            and decode_entry_id(position.encode()) >= entry
        )

    @property
    def may_accept(self) -> bool:
        """Whether it may decide by its copy, if it lives."""
        return self.heartbeat.accepts_stale or self.silence <= self.heartbeat.bound


def describe(live: Iterable[Instance], own: str) -> list[InstanceStatus]:
    """Return how each of a fleet is.

    Args:
        live: The instances.
        own: The one that asks.
    """
    fleet = sorted(live, key=lambda each: (each.heartbeat.host, each.heartbeat.pid, each.name))
    newest = max((_milliseconds(each.heartbeat) for each in fleet), default=0)
    return [_describe(each, newest, is_self=each.name == own) for each in fleet]


def _describe(instance: Instance, newest: int, *, is_self: bool) -> InstanceStatus:
    heartbeat, silence = instance.heartbeat, instance.silence
    staleness = None if heartbeat.staleness is None else heartbeat.staleness + silence
    is_stale = silence > heartbeat.bound or (staleness or 0.0) > heartbeat.bound
    # What it lacks cannot be older than its last proof.
    lag = min((newest - _milliseconds(heartbeat)) / 1000, staleness or 0.0)
    return InstanceStatus(
        instance=instance.name,
        host=heartbeat.host,
        pid=heartbeat.pid,
        version=heartbeat.version,
        state="stale" if is_stale else heartbeat.state,
        staleness=staleness,
        position=heartbeat.position,
        lag=lag,
        entries=heartbeat.entries,
        longest_life=heartbeat.longest_life,
        silence=silence,
        is_silent=silence > max(_SILENT_LEAST, _SILENT_TICKS * heartbeat.interval),
        is_self=is_self,
    )


def _milliseconds(heartbeat: Heartbeat) -> int:
    return decode_entry_id(heartbeat.position.encode())[0] if heartbeat.position else 0
