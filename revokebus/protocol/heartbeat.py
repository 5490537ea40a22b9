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

from revokebus.protocol.wire import decode_row_id
from revokebus.results import InstanceStatus, State

VERSION = version("revokebus")
"""Of this library."""

_SILENT_TICKS = 4
_SILENT_LEAST = 2.0
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Beat:
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
        position: The last row of the log that its copy includes; None likewise.
        entries: How many revocations its copy holds.
        complete: Whether it has had room for all of them.
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


UNREADABLE = Beat(
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

_BEAT = TypeAdapter(Beat)


def encode_beat(beat: Beat) -> bytes:
    """Return `beat` in JSON."""
    return json.dumps(asdict(beat)).encode()


def decode_beat(text: bytes) -> Beat:
    """Return the beat that `text` is.

    Raises:
        WireError: It is none; another version of RevokeBus may have written it.
    """
    if len(text) > _MAX_BYTES:
        raise WireError("too_large")
    try:
        beat = _BEAT.validate_json(text, strict=True)
        if beat.position is not None:
            decode_row_id(beat.position.encode())
    except (ValidationError, UnicodeError):
        raise WireError("beat") from None
    if not all(
        map(math.isfinite, (beat.staleness or 0.0, beat.bound, beat.interval, beat.longest_life))
    ):
        raise WireError("beat")
    return beat


@dataclass(frozen=True, slots=True)
class Present:
    """An instance, as Redis knows it.

    Attributes:
        instance: What it is called.
        beat: Its last heartbeat.
        silence: Seconds since then, by Redis's clock.
    """

    instance: str
    beat: Beat
    silence: float

    def has(self, epoch: str, row: tuple[int, int]) -> bool:
        """Return whether it refuses what `row` revokes, by its copy or by asking Redis."""
        position, beat = self.beat.position, self.beat
        return (
            position is not None
            and (beat.complete or not beat.accepts_stale)
            and epoch == self.beat.epoch
            and decode_row_id(position.encode()) >= row
        )

    @property
    def may_accept(self) -> bool:
        """Whether it may decide by its copy, if it lives."""
        return self.beat.accepts_stale or self.silence <= self.beat.bound


def describe(presents: Iterable[Present], own: str) -> list[InstanceStatus]:
    """Return how each of a fleet is.

    Args:
        presents: The instances.
        own: The one that asks.
    """
    fleet = sorted(presents, key=lambda each: (each.beat.host, each.beat.pid, each.instance))
    newest = max((_milliseconds(each.beat) for each in fleet), default=0)
    return [_describe(each, newest, is_self=each.instance == own) for each in fleet]


def _describe(present: Present, newest: int, *, is_self: bool) -> InstanceStatus:
    beat, silence = present.beat, present.silence
    staleness = None if beat.staleness is None else beat.staleness + silence
    is_stale = silence > beat.bound or (staleness or 0.0) > beat.bound
    # What it lacks cannot be older than its last proof.
    lag = min((newest - _milliseconds(beat)) / 1000, staleness or 0.0)
    return InstanceStatus(
        instance=present.instance,
        host=beat.host,
        pid=beat.pid,
        version=beat.version,
        state="stale" if is_stale else beat.state,
        staleness=staleness,
        position=beat.position,
        lag=lag,
        entries=beat.entries,
        longest_life=beat.longest_life,
        silence=silence,
        is_silent=silence > max(_SILENT_LEAST, _SILENT_TICKS * beat.interval),
        is_self=is_self,
    )


def _milliseconds(beat: Beat) -> int:
    return decode_row_id(beat.position.encode())[0] if beat.position else 0
