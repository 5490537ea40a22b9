"""The tokens that were verified, so that no signature is checked twice."""

from __future__ import annotations

import math
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from cachetools import TLRUCache

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.tokens.claims import AccessToken, RefreshToken


class Verified:
    """A token that passed, and what is known of it from one request to the next.

    Args:
        token: The token.
        digest: That of its encoded form.
        leeway: By how many seconds clocks may differ.

    Attributes:
        token: The token.
        digest: That of its encoded form.
        valid_from: The first moment at which it may be used, in seconds since the epoch.
        valid_until: The first one at which it may not any more.
        probe: What whoever checks it further asks again and again.
        clear_at: When he last found nothing against it, as a revision of what he asks.
    """

    __slots__ = ("clear_at", "digest", "probe", "token", "valid_from", "valid_until")

    def __init__(self, token: AccessToken | RefreshToken, digest: bytes, leeway: float) -> None:
        self.token = token
        self.digest = digest
        self.probe: Any = None
        self.clear_at = -1
        self.valid_from, self.valid_until = valid_between(token, leeway)


def valid_between(token: AccessToken | RefreshToken, leeway: float) -> tuple[float, float]:
    """Return the first moment at which `token` may be used, and the first at which it may not.

    Args:
        token: The token.
        leeway: By how many seconds clocks may differ.
    """
    # Whole seconds, as PyJWT compares: another instance's clock may be a moment ahead.
    valid_from = math.floor(max(token.issued_at, token.not_before)) - leeway
    if token.auth_time is not None:
        # Later than any sign-in is put, see `CutOffs`: no cut-off would reach the token.
        valid_from = max(valid_from, token.auth_time - 3 * leeway - 2)
    return valid_from, token.expires_at + leeway


class VerifiedCache:
    """Remembers tokens until they expire; where there are too many, the latest that were noted.

    That they are in use is noted when they come in any but the quickest way: in a cookie, or for
    the first time after a revocation.

    It is a saving only: an evicted token is verified again. It holds a digest of the token, not the
    token. What has failed never enters it, so that bad tokens cannot displace good ones.

    Args:
        size: How many are remembered.
        beginning: What most clients send before the token.
        clock: Tells the wall time.

    Attributes:
        by_digest: What is remembered. A look-up there is a twentieth of one in the cache, which
            notes the time and who was last; `touch` does that now and then.
    """

    def __init__(self, size: int, beginning: bytes, clock: Clock) -> None:
        self._size = size
        self._beginning = beginning
        self._lock = threading.Lock()  # a route in a thread may authenticate, too
        self._cache = _Cache(size, ttu=_valid_until, timer=clock.wall)
        self.by_digest = self._cache.by_digest
        self._times_cleared = 0

    def __len__(self) -> int:
        return len(self.by_digest)

    def digest_of(self, encoded: bytes) -> bytes:
        """Return the digest of a token, together with what most clients send before it.

        So that nothing has to be cut off from the header. By BLAKE2b (RFC 7693), because OpenSSL's
        SHA-256 takes twice as long to begin.
        """
        return blake2b(self._beginning + encoded).digest()

    @property
    def times_cleared(self) -> int:
        """How often everything was forgotten."""
        return self._times_cleared

    def add(self, verified: Verified, times_cleared: int) -> None:
        """Remember a token that was verified after everything was forgotten so many times."""
        if self._size:
            with self._lock:
                # In a thread, the keys may have changed since.
                if times_cleared == self._times_cleared:
                    self._cache[verified.digest] = verified

    def touch(self, verified: Verified) -> None:
        """Note that a token is in use: others are evicted before it."""
        with self._lock:
            self._cache.get(verified.digest)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._times_cleared += 1
            self._cache.clear()

    def tokens(self) -> list[AccessToken | RefreshToken]:
        """Return the tokens that are remembered."""
        with self._lock:
            return [verified.token for verified in self.by_digest.values()]


class _Cache(TLRUCache[bytes, Verified]):
    """Knows when to drop what; what is left stands in a dict, too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.by_digest: dict[bytes, Verified] = {}

    def __setitem__(self, digest: bytes, verified: Verified) -> None:
        super().__setitem__(digest, verified)
        if digest in self:
            self.by_digest[digest] = verified
        else:  # it has expired, and so has replaced nothing
            self.by_digest.pop(digest, None)

    def popitem(self) -> tuple[bytes, Verified]:
        digest, verified = super().popitem()
        self.by_digest.pop(digest, None)
        return digest, verified

    def expire(self, time: float | None = None) -> list[tuple[bytes, Verified]]:
        expired = super().expire(time)
        for digest, _ in expired:
            self.by_digest.pop(digest, None)
        return expired

    def clear(self) -> None:
        super().clear()
        self.by_digest.clear()


def _valid_until(_digest: bytes, verified: Verified, _now: float) -> float:
    return verified.valid_until
