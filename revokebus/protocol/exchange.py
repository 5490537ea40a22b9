"""What is kept of a session that refreshes, and what becomes of the next refresh token.

Redis decides, in a script; here is the same decision for ``memory://``, and for the test that
compares the two. A record is the text ``<generation> <p or d> <times> <note>``: which generation of
the session's tokens was issued last, whether its answer was delivered or is still pending, when the
latest generations were exchanged (milliseconds, the newest first), and what is needed to make the
last answer once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from revokebus.protocol.revocation import Target

MOST_TIMES = 16
"""Maximum number of exchange times that the record of a session holds."""


class Outcome(Enum):
    """What becomes of a refresh token that is presented."""

    GRANTED = "granted"
    REPEATED = "repeated"
    REPLAYED = "replayed"
    REVOKED = "revoked"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A refresh token that is presented, and what its owner would be given.

    Attributes:
        generation: The token's.
        jti: Its ``jti``.
        issued_at: Its ``iat``, in seconds since the epoch.
        since: The moment that cut-offs are compared with, see `revocation.is_refused`.
        life: For how many seconds the record must live.
        note: What is needed to make the new pair once more: a JSON array that ends with the
            ``jti`` of the new refresh token.
        user: Whose list of sessions has this one; None where it is on none.
        entry: What the list says of it from then on.
    """

    generation: int
    jti: str
    issued_at: float
    since: float
    life: float
    note: bytes
    user: Target | None = None
    entry: bytes = b""


class Exchanged(NamedTuple):
    """What became of it.

    Attributes:
        outcome: In a word.
        generation: The generation of the pair to give; 0 where there is none to give.
        note: What that pair is made of.
    """

    outcome: Outcome
    generation: int = 0
    note: bytes = b""


class SessionRecord(NamedTuple):
    """What is known of a session.

    Attributes:
        generation: Which of its tokens were issued last.
        is_delivered: Whether the instance that issued them knows that it could answer.
        times: When the generations before were exchanged, in milliseconds, the newest first.
        note: What the last pair is made of.
    """

    generation: int
    is_delivered: bool
    times: tuple[int, ...]
    note: bytes

    def delivered(self, now: int) -> SessionRecord:
        """Return the record once the pair was delivered, in the millisecond `now`."""
        return self._replace(is_delivered=True, times=(now, *self.times[1:]))


def encode_session(record: SessionRecord) -> bytes:
    """Return the text of a record."""
    state = b"d" if record.is_delivered else b"p"
    times = ",".join(map(str, record.times)).encode()
    return b" ".join((b"%d" % record.generation, state, times, record.note))


def decide(
    record: SessionRecord | None, exchange: Exchange, now: int, grace: int, in_flight: int
) -> tuple[Exchanged, SessionRecord | None]:
    """Return what becomes of a refresh token, and the record from then on.

    Args:
        record: What is known of its session; None for nothing.
        exchange: The token.
        now: The time, in milliseconds.
        grace: For how many milliseconds an answer is given once more.
        in_flight: For how many of them an answer may be on its way to the instance that asked.
    """
    presented = exchange.generation
    known = record or SessionRecord(presented, is_delivered=True, times=(), note=b"")
    if presented < known.generation:
        second = _second(known, exchange, now, grace, in_flight)
        if second is not None:
            return second, record
    elif record is not None and _is_another(record, exchange):
        return Exchanged(Outcome.REPLAYED), record
    times = known.times if presented <= known.generation else ()
    if presented < known.generation:
        times = times[1:]  # the exchange that is done once more
    recent = takewhile(lambda at: abs(now - at) < grace, times[: MOST_TIMES - 1])
    made = SessionRecord(presented + 1, False, (now, *recent), exchange.note)  # noqa: FBT003 - a field
    return Exchanged(Outcome.GRANTED, made.generation, made.note), made


def _is_another(record: SessionRecord, exchange: Exchange) -> bool:
    """Return whether Redis has lost records, and an older token was used since then."""
    if exchange.generation > record.generation:
        return record.times[0] / 1000 > exchange.issued_at
    return not record.note.endswith(b'"%s"]' % exchange.jti.encode())


def _second(
    known: SessionRecord, exchange: Exchange, now: int, grace: int, in_flight: int
) -> Exchanged | None:
    """Return what becomes of a token that was exchanged before; None to exchange it again."""
    ago = known.generation - exchange.generation
    repeated = Exchanged(Outcome.REPEATED, known.generation, known.note)
    if ago <= len(known.times) and abs(now - known.times[ago - 1]) < grace:
        return repeated
    if ago > 1 or known.is_delivered:
        return Exchanged(Outcome.REPLAYED)
    if known.note == exchange.note:  # the same attempt, after a lost connection
        return repeated
    # Until the deadline of that attempt it is not known whether it was answered. Then it was not.
    return Exchanged(Outcome.UNSETTLED) if abs(now - known.times[0]) < in_flight else None
