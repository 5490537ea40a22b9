"""The tokens that were verified, so that no signature is checked twice."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from revokebus.tokens.claims import AccessToken, RefreshToken

_SHARE_OF_READY = 3
_KEY_BYTES = 24
_ONCE, _AGAIN = b"\0", b"\1"
# Measured, see load_tests/memory.py: what Python takes for an entry beside the bytes themselves.
_SEALED_BYTES, _READY_BYTES, _READY_PER_BYTE = 340, 2_000, 2


class Verified:
    """A token that passed, and what is known of it from one request to the next.

    Args:
        token: The token.
        digest: That of its encoded form.
        leeway: By how many seconds clocks may differ.
        sealed: Where it comes from.

    Attributes:
        token: The token.
        digest: That of its encoded form.
        valid_from: The first moment at which it may be used, in seconds since the epoch.
        valid_until: The first one at which it may not any more.
        probe: What whoever checks it further asks again and again.
        clear_at: When he last found nothing against it, as a revision of what he asks.
        sealed: Where it comes from.
        is_used: Whether it was in use since others had to make room.
    """

    __slots__ = (
        *("clear_at", "digest", "is_used", "probe", "sealed", "token", "valid_from", "valid_until"),
    )

    def __init__(
        self, token: AccessToken | RefreshToken, digest: bytes, leeway: float, sealed: bytes
    ) -> None:
        self.sealed = sealed
        self.is_used = False
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
    """Remembers which tokens were verified, in so many bytes.

    A token is remembered *sealed*: by a digest of what was verified, and where it comes from. When
    it comes again it brings its claims with it, and is made again of those. Those that come often
    are kept *ready*, in a third of the room, and any while there is room. Of the sealed ones the
    oldest makes room for a new one; of the ready ones the oldest that was not in use meanwhile,
    which then counts as a new sealed one. So a crowd of tokens that come once displaces none that
    are in use.

    It is a saving only: a token that was displaced is verified again. It holds digests of tokens,
    not tokens. What has failed never enters it, so that bad tokens cannot displace good ones.

    Args:
        size: How many bytes it may take, by an estimate; 0 for nothing.
        beginning: What most clients send before the token.

    Attributes:
        by_digest: Those that are ready.
    """

    def __init__(self, size: int, beginning: bytes) -> None:
        self._size = size
        self._beginning = beginning
        self._lock = threading.Lock()  # a route in a thread may authenticate, too
        self._sealed: OrderedDict[bytes, bytes] = OrderedDict()
        # Few: what is remembered of a token is shared with all that come from the same place.
        self._values: dict[bytes, bytes] = {}
        self._ready_bytes = 0
        self.by_digest: dict[bytes, Verified] = {}
        self._order: OrderedDict[bytes, Verified] = OrderedDict()
        self._times_cleared = 0

    def __len__(self) -> int:
        return len(self._sealed) + len(self.by_digest)

    @property
    def taken(self) -> int:
        """How many bytes it takes, by an estimate."""
        return _SEALED_BYTES * len(self._sealed) + self._ready_bytes

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

    def sealed(self, digest: bytes) -> bytes | None:
        """Return where a token comes from that was verified; None for any other."""
        found = self._sealed.get(digest[:_KEY_BYTES])
        return None if found is None else found[1:]

    def add(self, verified: Verified, times_cleared: int) -> None:
        """Remember a token that was verified after everything was forgotten so many times."""
        with self._lock:
            # In a thread, the keys may have changed since.
            if not self._size or times_cleared != self._times_cleared:
                return
            if self._ready_bytes + _size_of_ready(verified) <= self._size // _SHARE_OF_READY:
                self._keep(verified)
            else:
                self._put(verified.digest[:_KEY_BYTES], _ONCE + verified.sealed)
            self._make_room()

    def keep_ready(self, verified: Verified, times_cleared: int) -> None:
        """Keep a token that has come again twice as it is; for the rest as for `add`."""
        with self._lock:
            if times_cleared != self._times_cleared:
                return
            key = verified.digest[:_KEY_BYTES]
            if self._sealed.get(key, _AGAIN)[:1] == _AGAIN:
                self._keep(verified)
                self._make_room()
            else:
                self._put(key, _AGAIN + verified.sealed)

    def touch(self, verified: Verified) -> None:
        """Note that a token is in use: others are displaced before it."""
        verified.is_used = True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._times_cleared += 1
            self._sealed.clear()
            self._order.clear()
            self.by_digest.clear()
            self._ready_bytes = 0

    def tokens(self) -> list[AccessToken | RefreshToken]:
        """Return those that are ready."""
        with self._lock:
            return [each.token for each in self.by_digest.values()]

    def _keep(self, verified: Verified) -> None:
        if verified.digest in self.by_digest:
            return
        self._sealed.pop(verified.digest[:_KEY_BYTES], None)
        self.by_digest[verified.digest] = self._order[verified.digest] = verified
        self._ready_bytes += _size_of_ready(verified)

    def _put(self, key: bytes, sealed: bytes) -> None:
        self._sealed.pop(key, None)
        self._sealed[key] = self._values.setdefault(sealed, sealed)

    def _make_room(self) -> None:
        while self._ready_bytes > self._size // _SHARE_OF_READY:
            digest, verified = self._order.popitem(last=False)
            if verified.is_used:
                verified.is_used = False
                self._order[digest] = verified
                continue
            del self.by_digest[digest]
            self._ready_bytes -= _size_of_ready(verified)
            self._put(digest[:_KEY_BYTES], _AGAIN + verified.sealed)
        while self.taken > self._size:
            self._sealed.popitem(last=False)


def _size_of_ready(verified: Verified) -> int:
    claims = verified.token.verified_claims.values()
    return _READY_BYTES + _READY_PER_BYTE * sum(len(each) for each in claims if type(each) is str)
