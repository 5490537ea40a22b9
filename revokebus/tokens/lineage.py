"""What a refresh token knows of its session: its generation, how long it may last, its device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from revokebus.errors import InvalidTokenError
from revokebus.protocol.sign_in import LONGEST_DEVICE
from revokebus.protocol.wire import MAX_EXPIRES_AT

if TYPE_CHECKING:
    from collections.abc import Mapping

LINEAGE = "revokebus"
"""The claim, an object, in refresh tokens only; a name that no one else has (RFC 7519 §4.3)."""

_MOST_GENERATIONS = 2**40


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is handed on from a refresh token to the next one of its session.

    Attributes:
        generation: How many exchanges lie between the sign-in and this token.
        access_ttl: Lifetime of the session's access tokens, in seconds; None for the setting.
        refresh_ttl: Likewise, of its refresh tokens.
        ends_at: When the session ends whatever happens, in seconds since the epoch.
        device: What its user's list of sessions calls it; None where it is on no list.
    """

    generation: int = 0
    access_ttl: float | None = None
    refresh_ttl: float | None = None
    ends_at: float | None = None
    device: str | None = None

    @classmethod
    def of(cls, claims: Mapping[str, object]) -> Self:
        """Return the lineage in the claims of a refresh token; generation 0 where there is none.

        Raises:
            InvalidTokenError: A member has a wrong type or value.
        """
        found = claims.get(LINEAGE, {})
        if not isinstance(found, dict):
            raise InvalidTokenError
        generation = found.get("gen", 0)
        if type(generation) is not int or not 0 <= generation <= _MOST_GENERATIONS:
            raise InvalidTokenError
        device = found.get("device")
        if device is not None and not (isinstance(device, str) and len(device) <= LONGEST_DEVICE):
            raise InvalidTokenError
        access_ttl, refresh_ttl, ends_at = (
            _number(found, name) for name in ("access_ttl", "refresh_ttl", "end")
        )
        return cls(generation, access_ttl, refresh_ttl, ends_at, device)

    def claim(self) -> dict[str, object]:
        """Return the value of the claim."""
        said = {
            "access_ttl": self.access_ttl,
            "refresh_ttl": self.refresh_ttl,
            "end": self.ends_at,
            "device": self.device,
        }
        known = {name: value for name, value in said.items() if value is not None}
        return {"gen": self.generation, **known}

    def at(self, generation: int) -> Self:
        """Return that of another token of the session."""
        return replace(self, generation=generation)


def _number(found: Mapping[str, object], name: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError
    if not 0 < value < MAX_EXPIRES_AT:
        raise InvalidTokenError
    return float(value)
