"""What a revocation is, and which tokens it refuses."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Value = str | int | float | bool
"""What a claim can be revoked by: the types of JSON that are neither null nor put together."""

EVERYTHING = "revokebus:everything"
"""In place of a claim's name: every token is meant, whoever issued it."""

ALWAYS = ("jti", "sid", "sub")
"""What any token can be revoked by, whatever the settings say."""

MOST_TARGETS = 1000
"""By how many values one token can be refused at most, as far as Redis is asked about it."""

_EVERYTHING_TEXT = "*"
_TICK = 2.0**-20


class Target(NamedTuple):
    """Which tokens a revocation is about, in a form that can be compared.

    In JSON ``1`` and ``1.0`` are the same, and neither is ``true`` or ``"1"``; to Python some
    of them are equal and some are not. So the value is its text, beside its type.

    Attributes:
        issuer: The ``iss`` of the tokens; empty where they need not have one.
        claim: The claim's name.
        kind: The value's type in JSON: ``string``, ``number`` or ``boolean``.
        text: The value.
    """

    issuer: str
    claim: str
    kind: str
    text: str


def kind_and_text(value: object) -> tuple[str, str] | None:
    """Return a claim's value as a `Target` has it; None for what cannot be revoked by."""
    if isinstance(value, str):
        return "string", value
    try:
        value = plain(value)
    except TypeError:
        return None
    if isinstance(value, bool):
        return "boolean", "true" if value else "false"
    return "number", repr(value)


def plain(value: object) -> Value:
    """Return `value` as JSON has it: ``1.0`` and ``1`` alike, and no member of an ``Enum``.

    Raises:
        TypeError: It cannot be revoked by.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float) and math.isfinite(value):
        number = float.__float__(value)
        return int(number) if number.is_integer() else number
    raise TypeError("not a text, a number, or true or false")


def value_of(kind: str, text: str) -> Value:
    """Return the value that `kind_and_text` has made `kind` and `text` of."""
    if kind == "string":
        return text
    value: Value = json.loads(text)
    return value


def values_of(claims: Mapping[str, object], claim: str) -> Iterator[tuple[str, str]]:
    """Yield what the token with these claims can be revoked by under the name `claim`.

    Of a list it is each member.
    """
    if claim == EVERYTHING:
        yield "string", _EVERYTHING_TEXT
        return
    value = claims.get(claim)
    for each in value if isinstance(value, list) else (value,):
        if (found := kind_and_text(each)) is not None:
            yield found


def targets_of(claims: Mapping[str, object], issuer: str, names: Iterable[str]) -> list[Target]:
    """Return all that a token could be refused by.

    Args:
        claims: The verified claims.
        issuer: Whose token it is.
        names: The claims that tokens are revoked by.
    """
    found = [
        Target(issuer, claim, kind, text)
        for claim in names
        for kind, text in values_of(claims, claim)
    ]
    return [*found, Target("", EVERYTHING, "string", _EVERYTHING_TEXT)]


def just_after(moment: float) -> float:
    """Return the next moment that has a fraction, about a microsecond later.

    A float of this century can hold it; it tells what came first within a second.
    """
    later = moment + _TICK
    return later if later != math.floor(later) else later + _TICK


def is_refused(since: float, issued_before: float) -> bool:
    """Return whether a cut-off refuses a token that counts from `since`.

    Where `since` has no fraction it stands for its whole second, and a cut-off within that
    second refuses it: it cannot be told which came first.

    Args:
        since: When the token was issued, in seconds since the epoch.
        issued_before: The cut-off, likewise; infinity refuses all.
    """
    return since < issued_before or (since == issued_before and since == math.floor(since))


class Kept(NamedTuple):
    """A session that a cut-off does not end.

    Attributes:
        session_id: The ``sid`` of its tokens.
        issued_before: Those from before this moment are refused all the same, by a cut-off that
            did not keep it; in seconds since the epoch, 0 where there is none.
    """

    session_id: str
    issued_before: float = 0.0

    @property
    def cut_off(self) -> float:
        """`issued_before` as a number that refuses nothing where there is none."""
        return self.issued_before or -math.inf


class Revocation(NamedTuple):
    """Every token whose `claim` equals `value`, or has it in its list, is refused.

    Attributes:
        claim: The claim's name: ``jti`` for one token, ``sid`` for a session.
        value: The claim's value.
        expires_at: Seconds since the epoch until which the record must live: the last ``exp``
            that a matching token can have, plus twice the leeway: that of the reader, and that
            of his clock.
        issued_before: Only tokens from before this moment are refused, in seconds since the
            epoch; None for all, those not issued yet included.
        issuer: The ``iss`` of the tokens that are meant.
        kept: The session that goes on; its own cut-off is the earlier one.
    """

    claim: str
    value: Value
    expires_at: float
    issued_before: float | None = None
    issuer: str = ""
    kept: Kept | None = None

    @property
    def target(self) -> Target:
        """Which tokens are meant."""
        kind, text = kind_and_text(self.value) or ("", "")
        return Target(self.issuer, self.claim, kind, text)

    @property
    def cut_off(self) -> float:
        """`issued_before` as a number: infinity where all tokens are refused."""
        return math.inf if self.issued_before is None else self.issued_before

    def cut_off_of(self, session_id: object) -> float:
        """Return the cut-off for the tokens of a session; any other value is none that is kept."""
        kept = self.kept
        return kept.cut_off if kept and kept.session_id == session_id else self.cut_off

    def refuses(self, claims: Mapping[str, object], *, issuer: str, since: float) -> bool:
        """Return whether a token is refused by this one; for the arguments see `Denylist`."""
        if self.claim != EVERYTHING and self.issuer != issuer:
            return False
        target = self.target
        has_it = (target.kind, target.text) in values_of(claims, self.claim)
        return has_it and is_refused(since, self.cut_off_of(claims.get("sid")))

    def covers(self, other: Revocation) -> bool:
        """Return whether this one, of the same target, makes `other` superfluous."""
        return self.expires_at >= other.expires_at and (
            cut_off_covers(self.cut_off, self.kept, other.cut_off, other.kept)
        )

    def merged(self, other: Revocation | None) -> Revocation:
        """Return one that refuses, for as long, whatever this or `other` of its target does."""
        if other is None or self.covers(other):
            return self
        cut_off, kept = merged_cut_off(self.cut_off, self.kept, other.cut_off, other.kept)
        return self._replace(
            expires_at=max(self.expires_at, other.expires_at),
            issued_before=None if cut_off == math.inf else cut_off,
            kept=kept,
        )


def user_of(issuer: str, subject: str) -> Target:
    """Return what all tokens of a user can be revoked by."""
    return Target(issuer, "sub", "string", subject)


def session_among(targets: Iterable[Target]) -> str | None:
    """Return the ``sid`` of the token that `targets` are of; None where it has none."""
    return next((each.text for each in targets if each.claim == "sid"), None)


def cut_off_covers(
    cut_off: float, kept: Kept | None, other: float, other_kept: Kept | None
) -> bool:
    """Return whether a cut-off, with the session it keeps, refuses whatever another one does."""
    if cut_off < other or kept is None:
        return cut_off >= other
    return kept.issued_before >= _of(kept.session_id, other, other_kept)


def merged_cut_off(
    cut_off: float, kept: Kept | None, other: float, other_kept: Kept | None
) -> tuple[float, Kept | None]:
    """Return the cut-off that refuses what either does, and the session that both of them keep.

    It is one session at most: where two cut-offs keep different ones, the earlier cut-off's session
    is ended by the later cut-off.
    """
    latest = max(cut_off, other)
    for each in filter(None, (kept, other_kept)):
        of_session = max(
            _of(each.session_id, cut_off, kept), _of(each.session_id, other, other_kept)
        )
        if of_session < latest:
            return latest, Kept(each.session_id, of_session)
    return latest, None


def _of(session_id: str, cut_off: float, kept: Kept | None) -> float:
    return kept.issued_before if kept and kept.session_id == session_id else cut_off


def everything(expires_at: float, issued_before: float) -> Revocation:
    """Return the revocation of every token from before a moment."""
    return Revocation(EVERYTHING, _EVERYTHING_TEXT, expires_at, issued_before)
