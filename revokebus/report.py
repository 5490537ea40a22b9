"""What the bus tells of itself and of what it has done."""

from __future__ import annotations

# Not for the type checker only: FastAPI reads it where a route returns a BusStatus.
from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass, field
from typing import Literal

State = Literal["starting", "fresh", "stale", "closed"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a revocation has achieved.

    Attributes:
        revocations: How many records were made durable; 0 for a token that has expired.
        position: The last row of the log that carries them, None on ``memory://``.
        replicas: How many replicas of Redis have acknowledged them; None where `min_replicas`
            was not asked for.
        sessions: With ``dry_run``: how many sessions this process has seen a valid token of
            lately that would be ended; there may be others. None otherwise.
        instances: With ``dry_run``: how many processes would be told at once. None otherwise,
            and where Redis could not say.
    """

    revocations: int
    position: str | None
    replicas: int | None = None
    sessions: int | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the audit has looked at.

    Attributes:
        check: What was looked at, in one word: ``eviction``, ``persistence``, ``replicas``,
            ``fencing``, ``clock``, ``rights`` or ``retention``.
        level: ``ok``; ``warning``; or ``refused``, with which the bus does not start.
        message: What was found.
        remedy: What to do about it; empty where nothing is to be done.
    """

    check: str
    level: Literal["ok", "warning", "refused"]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class BusStatus:
    """What this process knows of its copy, at the moment of the call.

    Attributes:
        state: ``starting`` until the first proof, ``fresh`` while the last proof is younger
            than ``max_staleness``, ``stale`` after that, ``closed`` when stopped.
        staleness: Seconds since the copy was last proven complete; None without a proof.
        entries: How many revocations the copy holds.
        position: The last row of the log that the copy includes.
        subscribed: Whether revocations are pushed at this moment.
        last_error: The trouble that lasts at this moment, in words.
        ignored: How many messages, rows and records of strangers were met, by kind.
        unsaved: How many revocations are applied here and not yet in Redis.
        complete: Whether the copy has room for every revocation (``max_entries``). Where it has
            not, Redis is asked about every token that the copy does not refuse.
        left_out: How many revocations the copy had no room for, since it was made.
    """

    state: State
    staleness: float | None
    entries: int
    position: str | None = None
    subscribed: bool = False
    last_error: str | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)
    unsaved: int = 0
    complete: bool = True
    left_out: int = 0
