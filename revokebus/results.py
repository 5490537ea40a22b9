"""What the bus tells of itself and of what it has done."""

from __future__ import annotations

# Not for the type checker only: FastAPI reads it where a route returns a BusStatus.
from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass, field
from typing import Literal

State = Literal["starting", "fresh", "stale", "closed"]


@dataclass(frozen=True, slots=True)
class EndingSession:
    """The session that a request is to end. Good for nothing else: its token may have expired.

    Attributes:
        session_id: Its ``sid``.
        subject: Whose it is.
        issuer: Who has issued its tokens; empty where the application's own tokens name none.
    """

    session_id: str
    subject: str
    issuer: str


@dataclass(frozen=True, slots=True)
class UserSession:
    """One session of a user, for the page on which people look at their devices.

    Attributes:
        session_id: Its ``sid``, by which `RevokeBus.revoke_session` ends it.
        device: Where it was begun, as `RevokeBus.sign_in` was told. A stranger may have chosen it.
        signed_in_at: When it began, in seconds since the epoch.
        refreshed_at: When its tokens were exchanged last; None before the first time.
        expires_at: When it ends unless they are exchanged once more.
    """

    session_id: str
    device: str
    signed_in_at: float
    refreshed_at: float | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """How one instance of the fleet is, as its last heartbeat tells; it was just asked for one.

    Attributes:
        instance: What it is called: another name after each start.
        host: Its machine's name.
        pid: Its process.
        version: Of RevokeBus.
        state: That of its copy, see `BusStatus`. One that has not been heard of for longer than
            its ``max_staleness`` is ``stale``, because it knows so, if it lives.
        staleness: Seconds since its copy was last proven complete, at most; None before the first
            time.
        position: The last row of the log that its copy includes; pushed ones come before.
        lag: By how many seconds it is behind the instance that has read furthest, at most.
        entries: How many revocations its copy holds.
        longest_life: For how many seconds a token that is issued now may be accepted there.
        silence: Seconds since its last heartbeat, by Redis's clock.
        is_silent: Whether that is longer than it should be: it has ended without a word, or
            cannot reach Redis.
        is_self: Whether it is the one that was asked.
        owed: How many revocations it knows, and is still to write to Redis.
    """

    instance: str
    host: str
    pid: int
    version: str
    state: State
    staleness: float | None
    position: str | None
    lag: float
    entries: int
    longest_life: float
    silence: float
    is_silent: bool
    is_self: bool
    owed: int = 0


Outcome = Literal["applied", "ended", "stale", "silent"]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Whether one instance has applied a revocation.

    Attributes:
        instance: What it is called.
        host: Its machine's name.
        pid: Its process.
        outcome: ``applied``; ``ended``, if it has stopped meanwhile; ``stale``, if it has not been
            heard of for so long that it trusts its own copy no more, if it lives; ``silent``, if
            it did not answer: it may go on accepting the token until ``max_staleness`` has passed.
        seconds: Until its answer was here, from the beginning of the call; None without one.
    """

    instance: str
    host: str
    pid: int
    outcome: Outcome
    seconds: float | None = None


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
        confirmations: With ``confirm="fleet"``: what became of it at each instance that lived,
            this one included. None otherwise.
        knows_all: With ``confirm="fleet"``: whether no other instance can be there. False for
            ``max_staleness`` after the data in Redis were made, or restored, or another server
            has taken over: one that was cut off before is not known, and may accept tokens for
            so long.
    """

    revocations: int
    position: str | None
    replicas: int | None = None
    sessions: int | None = None
    instances: int | None = None
    confirmations: tuple[Confirmation, ...] | None = None
    knows_all: bool = True

    @property
    def is_confirmed(self) -> bool:
        """Whether no instance accepts what was revoked.

        But where ``on_stale`` is ``accept``, in the settings or on a route, and the instance has
        been cut off for longer than ``max_staleness``; and where ``denylist_enabled`` is off.
        """
        return bool(self.confirmations) and not self.silent and self.knows_all

    @property
    def silent(self) -> tuple[Confirmation, ...]:
        """The instances that did not answer, and may accept it up to their ``max_staleness``."""
        return tuple(each for each in self.confirmations or () if each.outcome == "silent")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the audit has looked at.

    Attributes:
        check: What was looked at, in one word: ``eviction``, ``persistence``, ``replicas``,
            ``fencing``, ``clock``, ``rights``, ``retention``, ``lifetimes`` or ``alike``.
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
        instance: What this process is called in the fleet, since its last start; None on
            ``memory://``.
        clock_skew: By how many seconds, at least, Redis's clock is ahead of this machine's; None
            where that is not known. More than ``leeway`` either way is trouble.
        sees_restarts: Whether it is noticed that another server answers, or the same one was
            started again with older data, as after a failover behind one address; False where
            Redis does not answer ``INFO``, as some managed services have it. None on ``memory://``,
            and before the first tick.
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
    instance: str | None = None
    clock_skew: float | None = None
    sees_restarts: bool | None = None
