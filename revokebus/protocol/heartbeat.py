"""What an instance tells of itself, for whoever looks after the fleet, and for who asks all of it.

What does not change is told once; how its copy is, now and then, in few bytes.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from revokebus.errors import WireError
from revokebus.protocol.wire import decode_entry_id
from revokebus.results import InstanceStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from revokebus.results import State

VERSION = version("revokebus")
"""Of this library."""

HEARTBEAT_SECONDS, LONGEST_HEARTBEAT_SECONDS = 10.0, 11.0
"""After how many seconds, at least and at most, an instance sends the next heartbeat, or proves
nothing until it has; sooner where it is asked for one."""

_TICKS_PER_SECOND, _INTERVALS_PER_BOUND = 2_000, 8
_SILENT_TICKS = 4
_SILENT_LEAST = 2.0
_MAX_BYTES = 1 << 16
_EPOCH_SHOWN = 16
_STATES: Mapping[str, State] = {"n": "starting", "f": "fresh", "s": "stale", "c": "closed"}
_LETTERS = {state: letter for letter, state in _STATES.items()}
_BEAT = re.compile(
    r"([nfsc]) (-|[0-9]{1,15}) ([^ ]{0,16}) (-|[0-9]{1,20}-[0-9]{1,20}) ([0-9]{1,15}) ([01]) "
    r"([0-9]{1,15})",
    re.ASCII,
)


def seconds_between_ticks(interval: float, bound: float, instances: int) -> float:
    """Return how many seconds apart the ticks of an instance start, of so many as there are.

    What one Redis has to answer does not grow with a fleet of some thousand, nor does the age of
    its copies come near ``max_staleness``.

    Args:
        interval: What ``tick_interval`` is there.
        bound: What ``max_staleness`` is there.
        instances: How many there are.
    """
    return max(interval, min(instances / _TICKS_PER_SECOND, bound / _INTERVALS_PER_BOUND))


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while an instance lives.

    Attributes:
        version: Of RevokeBus.
        host: The machine's name.
        pid: The process.
        bound: What ``max_staleness`` is there, in seconds.
        accepts_stale: Whether ``on_stale`` is ``accept`` there.
        interval: What ``tick_interval`` is there.
        longest_life: For how many seconds a token may live there.
        issuer: The ``iss`` of tokens that are made there; empty where they have none.
        checked_types: The types of token that are looked up there.
        claims: The claims that tokens can be revoked by there, beside the usual ones.
        leeway: What ``leeway`` is there, in seconds.
        reads_from_replica: Whether it reads from a replica of Redis.
    """

    version: str
    host: str
    pid: int
    bound: float
    accepts_stale: bool
    interval: float
    longest_life: float
    issuer: str
    checked_types: list[str]
    claims: list[str]
    leeway: float
    reads_from_replica: bool = False


UNKNOWN = Facts(
    version="unknown",
    host="unknown",
    pid=0,
    bound=math.inf,
    accepts_stale=False,
    interval=0.0,
    longest_life=0.0,
    issuer="",
    checked_types=[],
    claims=[],
    leeway=0.0,
)
"""What is taken for the facts of an instance whose own are not known, or cannot be read."""

_FACTS = TypeAdapter(Facts)


def encode_facts(facts: Facts) -> bytes:
    """Return `facts` in JSON."""
    return json.dumps(asdict(facts)).encode()


def decode_facts(text: bytes) -> Facts:
    """Return the facts that `text` tells.

    Raises:
        WireError: It tells none; another version of RevokeBus may have written it.
    """
    if len(text) > _MAX_BYTES:
        raise WireError("too_large")
    try:
        facts = _FACTS.validate_json(text, strict=True)
    except (ValidationError, UnicodeError):
        raise WireError("facts") from None
    numbers = (facts.bound, facts.interval, facts.longest_life, facts.leeway)
    if not all(map(math.isfinite, numbers)):
        raise WireError("facts")
    return facts


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How the copy of an instance is.

    Attributes:
        state: That of its copy.
        staleness: Seconds since its copy was proven complete, to the millisecond; None before the
            first time.
        epoch: The data set that it reads, by the first 16 characters of its name; empty before it
            reads one.
        position: The last entry of the log that its copy includes; None likewise.
        entries: How many revocations its copy holds.
        complete: Whether it has had room for all of them.
        owed: How many revocations it knows, and is still to write to Redis.
    """

    state: State
    staleness: float | None
    epoch: str
    position: str | None
    entries: int
    complete: bool
    owed: int


UNREADABLE = Heartbeat("starting", None, "", None, 0, complete=True, owed=0)
"""What is taken for the heartbeat of an instance whose own cannot be read."""

ENDED = b"ended"
"""What an instance leaves in place of a heartbeat: it accepts no token any more."""


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return `heartbeat` in words, of 100 bytes at most for whatever there is."""
    staleness = heartbeat.staleness
    words = (
        _LETTERS[heartbeat.state],
        "-" if staleness is None else f"{max(0.0, staleness) * 1000:.0f}",
        heartbeat.epoch[:_EPOCH_SHOWN],
        heartbeat.position or "-",
        f"{heartbeat.entries:d}",
        f"{heartbeat.complete:d}",
        f"{heartbeat.owed:d}",
    )
    return " ".join(words).encode()


def decode_heartbeat(text: bytes) -> Heartbeat:
    """Return the heartbeat that `text` is.

    Raises:
        WireError: It is none; another version of RevokeBus may have written it.
    """
    found = _BEAT.fullmatch(text.decode("utf-8", "replace"))
    if found is None:
        raise WireError("beat")
    letter, staleness, epoch, position, entries, complete, owed = found.groups()
    if position != "-":
        decode_entry_id(position.encode())
    return Heartbeat(
        state=_STATES[letter],
        staleness=None if staleness == "-" else int(staleness) / 1000,
        epoch=epoch,
        position=None if position == "-" else position,
        entries=int(entries),
        complete=complete == "1",
        owed=int(owed),
    )


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, as Redis knows it.

    Attributes:
        name: What it is called.
        heartbeat: Its last heartbeat.
        facts: What does not change.
        silence: Seconds since the heartbeat, by Redis's clock.
    """

    name: str
    heartbeat: Heartbeat
    facts: Facts
    silence: float

    def seconds_between_ticks(self, instances: int) -> float:
        """Return how many seconds apart its ticks start, of so many instances as there are."""
        return seconds_between_ticks(self.facts.interval, self.facts.bound, instances)

    def has(self, epoch: str, entry: tuple[int, int]) -> bool:
        """Return whether it refuses what `entry` revokes, by its copy or by asking Redis."""
        heartbeat = self.heartbeat
        return (
            heartbeat.position is not None
            and (heartbeat.complete or not (self.facts.accepts_stale or self.facts is UNKNOWN))
            and heartbeat.epoch == epoch[:_EPOCH_SHOWN]
            and decode_entry_id(heartbeat.position.encode()) >= entry
        )


def describe(live: Iterable[Instance], own: str) -> list[InstanceStatus]:
    """Return how each of a fleet is, that was asked for heartbeats with each tick.

    Args:
        live: The instances.
        own: The one that asks.
    """
    fleet = sorted(live, key=lambda each: (each.facts.host, each.facts.pid, each.name))
    newest = max((_milliseconds(each.heartbeat) for each in fleet), default=0)
    return [_describe(each, newest, len(fleet), is_self=each.name == own) for each in fleet]


def _describe(instance: Instance, newest: int, instances: int, *, is_self: bool) -> InstanceStatus:
    heartbeat, facts, silence = instance.heartbeat, instance.facts, instance.silence
    staleness = None if heartbeat.staleness is None else heartbeat.staleness + silence
    is_stale = silence > facts.bound or (staleness or 0.0) > facts.bound
    # What it lacks cannot be older than its last proof.
    lag = min((newest - _milliseconds(heartbeat)) / 1000, staleness or 0.0)
    return InstanceStatus(
        instance=instance.name,
        host=facts.host,
        pid=facts.pid,
        version=facts.version,
        state="stale" if is_stale else heartbeat.state,
        staleness=staleness,
        position=heartbeat.position,
        lag=lag,
        entries=heartbeat.entries,
        longest_life=facts.longest_life,
        silence=silence,
        is_silent=silence
        > max(_SILENT_LEAST, _SILENT_TICKS * instance.seconds_between_ticks(instances)),
        is_self=is_self,
        owed=heartbeat.owed,
    )


def _milliseconds(heartbeat: Heartbeat) -> int:
    return decode_entry_id(heartbeat.position.encode())[0] if heartbeat.position else 0
