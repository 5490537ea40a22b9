"""Makes tokens: pairs of an access and a refresh token of one session."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Literal

import jwt
from pydantic import BaseModel, ConfigDict

from revokebus.claims import (
    MAX_TOKEN_LENGTH,
    AccessToken,
    RefreshToken,
    check_scopes,
    parse_token,
)
from revokebus.errors import InvalidTokenError
from revokebus.revocation import SPENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from revokebus.clock import Clock
    from revokebus.settings import Settings, TokenType

RESERVED_CLAIMS = frozenset(
    {"sub", "iat", "exp", "nbf", "jti", "sid", "type", "iss", "aud", "scope", "fresh", SPENT}
)
"""Names of claims that RevokeBus writes or reads itself."""


class TokenPair(BaseModel):
    """The answer to a sign-in or a refresh (RFC 6749 §5.1).

    Attributes:
        access_token: Opens guarded routes.
        refresh_token: Buys the next pair, once.
        token_type: Always ``bearer`` (RFC 6750).
        expires_in: Lifetime of the access token, in seconds.
        session_id: The ``sid`` of both tokens and of all that follow from them.
    """

    model_config = ConfigDict(frozen=True)

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme's name
    expires_in: int
    session_id: str

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Leave the tokens out of ``repr``: it ends up in logs."""
        return [("session_id", self.session_id), ("expires_in", self.expires_in)]


class Issuer:
    """Signs token pairs.

    Args:
        settings: Key, algorithm, lifetimes, issuer and audience.
        clock: Tells the wall time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
        session_id: str | None = None,
    ) -> TokenPair:
        """Return a new pair for `subject`.

        Args:
            subject: The ``sub`` claim; not empty.
            scopes: The ``scope`` claim of both tokens.
            claims: Further claims of both tokens.
            fresh: Whether the access token says that its owner has just proven who he is.
            session_id: The session that the pair continues; a new one by default.

        Raises:
            ValueError: `subject` is not a text of 1 to 4096 characters, a scope is not a single
                word (RFC 6749 §3.3), `claims` has a name that RevokeBus writes itself, or the
                token would be longer than is ever accepted.
            TypeError: A claim cannot be written as JSON.
        """
        taken = RESERVED_CLAIMS.intersection(claims or ())
        if taken:
            raise ValueError(f"claims must not set {', '.join(sorted(taken))}")
        sid = session_id or secrets.token_urlsafe(16)
        # With its fraction, so that a cut-off and a new sign-in fit into the same second.
        shared = {**(claims or {}), "sub": subject, "sid": sid, "iat": self._clock.wall()}
        shared |= self._configured_claims(scopes)
        settings = self._settings
        access = {**shared, "fresh": True} if fresh else shared
        return TokenPair(
            access_token=self._sign(access, AccessToken.type, settings.access_ttl),
            refresh_token=self._sign(shared, RefreshToken.type, settings.refresh_ttl),
            expires_in=math.ceil(settings.access_ttl),
            session_id=sid,
        )

    def _configured_claims(self, scopes: Iterable[str]) -> dict[str, object]:
        words = [scopes] if isinstance(scopes, str) else list(scopes)
        check_scopes(words)
        configured = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "scope": " ".join(words) or None,
        }
        return {name: value for name, value in configured.items() if value is not None}

    def _sign(self, claims: Mapping[str, object], token_type: TokenType, ttl: float) -> str:
        complete = {
            **claims,
            "type": token_type,
            "jti": secrets.token_urlsafe(16),
            # Whole seconds, because many verifiers read no others; up, never down.
            "exp": math.ceil(self._clock.wall() + ttl),
        }
        try:
            parse_token(complete)
        except InvalidTokenError:
            raise ValueError("subject must be a text of 1 to 4096 characters") from None
        settings = self._settings
        encoded = jwt.encode(complete, settings.signing_key, algorithm=settings.algorithms[0])
        if len(encoded) > MAX_TOKEN_LENGTH:
            raise ValueError(f"claims make a token of more than {MAX_TOKEN_LENGTH} characters")
        return encoded
