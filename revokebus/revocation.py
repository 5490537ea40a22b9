"""What a revocation is, and which tokens it matches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SPENT = "revokebus:spent"
"""In place of a claim's name: the value is the ``jti`` of a refresh token that was exchanged.

No token has such a claim, so nothing is refused by it; `Engine.rotate` asks for it by name.
"""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Every token whose `claim` equals `value` is refused.

    Attributes:
        claim: The claim's name: ``jti`` for one token, ``sid`` for a session.
        value: The claim's value.
        expires_at: Seconds since the epoch until which the record must live: the last ``exp``
            that a matching token can have, plus the leeway.
    """

    claim: str
    value: str
    expires_at: float


class Spending(Enum):
    """What became of an attempt to spend a single-use token."""

    GRANTED = "granted"
    SPENT = "spent"
    REVOKED = "revoked"
