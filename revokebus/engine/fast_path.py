"""What a request costs: the quick way to a token that was verified before."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from revokebus.tokens.claims import RefreshToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from revokebus.engine.parts import Parts
    from revokebus.tokens.claims import AnyToken
    from revokebus.tokens.verified_cache import Verified


class FastPath:
    """Returns the token of a request, if it was verified before and nothing stands against it.

    For every other it returns None, and `Engine.authenticate` has to be asked: the token is new, or
    wrong, or not to be used, or the copy alone cannot tell. All that `authenticate` checks is
    checked here, too; but what can only change with the copy's revision is asked once for each.

    It stands in one function, and reads few objects: each call and each object that the processor
    has to fetch is a percent of what FastAPI itself takes for a request.

    Args:
        parts: The tokens that were verified, the copy, and how old it is.
        is_clear: Returns whether nothing stands against a token until the copy's next revision.
    """

    __slots__ = (
        *("_counters", "_denylist", "_elapsed", "_elsewhere", "_freshness", "_is_clear"),
        *("_max_staleness", "_name", "_verified", "_wall"),
    )

    def __init__(self, parts: Parts, is_clear: Callable[[Verified], bool]) -> None:
        settings = parts.settings
        # Where a token may come otherwise, nothing is found.
        self._name = settings.header[0] if settings.is_header_only("access") else None
        self._elsewhere = None if settings.is_header_only("refresh") else RefreshToken
        self._verified = parts.verifier.verified.by_digest
        self._denylist = parts.denylist
        self._freshness = parts.freshness
        self._counters = parts.counters
        self._max_staleness = settings.max_staleness
        self._is_clear = is_clear
        self._wall, self._elapsed = parts.clock.wall, parts.clock.elapsed

    def token(
        self, headers: Iterable[tuple[bytes, bytes]], token_type: type[AnyToken]
    ) -> AnyToken | None:
        """Return the token of a request.

        Args:
            headers: Names in lower case, and values, as an ASGI scope has them.
            token_type: What the token has to be.
        """
        found, wanted = None, self._name
        for name, value in headers:
            if name == wanted:
                if found is not None:
                    return None
                found = value
        if found is None:
            return None
        known = self._verified.get(blake2b(found).digest())  # as in `digest_of`
        wall, elapsed, freshness = self._wall(), self._elapsed(), self._freshness
        if known is None or not known.valid_from <= wall < known.valid_until:
            return None
        if (known.clear_at != self._denylist.revision and not self._is_clear(known)) or (
            elapsed - freshness.proven_at > self._max_staleness
            or wall - elapsed < freshness.least_ahead
        ):
            return None
        token = known.token
        if type(token) is not token_type or token_type is self._elsewhere:
            return None
        known.is_used = True
        self._counters.recalled += 1
        return token
