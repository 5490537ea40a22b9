"""Says whether a token is genuine: signature, claims, time. Knows nothing of revocation."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import jwt
from cachetools import TLRUCache

from revokebus.claims import MAX_TOKEN_LENGTH, parse_token
from revokebus.errors import ExpiredTokenError, InvalidTokenError

if TYPE_CHECKING:
    from revokebus.claims import AccessToken, RefreshToken
    from revokebus.clock import Clock
    from revokebus.settings import Settings


class Verifier:
    """Checks encoded tokens with PyJWT and remembers those that passed.

    The cache is a saving only: it is bounded, an evicted token is verified again, and a token
    that failed never enters it, so that bad tokens cannot displace good ones. It holds a digest
    of the token, not the token. Time is checked on every call, cached or not.

    Args:
        settings: Key, algorithms, issuer, audience, leeway and the size of the cache.
        clock: Tells the wall time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._key = settings.signing_key
        self._algorithms = list(settings.algorithms)
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._leeway = settings.leeway
        self._clock = clock
        self._jwt = jwt.PyJWT(
            # Times are ours to check: on every call, also for a token that is in the cache.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        )
        self._verified: TLRUCache[bytes, AccessToken | RefreshToken] = TLRUCache(
            settings.verified_cache_size,
            ttu=lambda _digest, token, _now: token.expires_at + settings.leeway,
            timer=clock.wall,
        )

    def verify(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is.

        Raises:
            ExpiredTokenError: Its ``exp`` has passed, leeway included.
            InvalidTokenError: It is anything but a genuine token of this application.
        """
        token = self.verify_signature(encoded)
        self.check_time(token)
        return token

    def check_time(self, token: AccessToken | RefreshToken) -> None:
        """Check that `token` is neither expired nor of the future.

        Raises:
            ExpiredTokenError: Its ``exp`` has passed, leeway included.
            InvalidTokenError: Its ``nbf`` or ``iat`` has not come yet.
        """
        now = self._clock.wall()
        if token.expires_at + self._leeway <= now:
            raise ExpiredTokenError
        # Whole seconds, as PyJWT compares: another instance's clock may be a moment ahead.
        if math.floor(max(token.issued_at, token.not_before)) > now + self._leeway:
            raise InvalidTokenError("Token is not yet valid")

    def verify_signature(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, expired or not.

        Raises:
            InvalidTokenError: It is anything but a genuine token of this application.
        """
        if len(encoded) > MAX_TOKEN_LENGTH or not encoded.isascii():
            raise InvalidTokenError
        digest = hashlib.sha256(encoded.encode("ascii")).digest()
        token = self._verified.get(digest)
        if token is None:
            token = parse_token(self._decode(encoded))
            if self._verified.maxsize:
                self._verified[digest] = token
        return token

    def _decode(self, encoded: str) -> dict[str, object]:
        try:
            return self._jwt.decode(
                encoded,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["sub", "iat", "exp", "jti", "sid", "type"]},
            )
        except Exception:  # noqa: BLE001 - whatever a client's bytes make a decoder raise
            # The cause is dropped: its message can quote the token.
            raise InvalidTokenError from None
