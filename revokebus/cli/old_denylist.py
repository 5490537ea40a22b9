"""A denylist that another library keeps in Redis: a key for each revoked ``jti``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from revokebus.claims import is_identifier
from revokebus.revocation import Revocation
from revokebus.wire import MAX_EXPIRES_AT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from revokebus.clock import Clock
    from revokebus.settings import Settings

_AT_ONCE = 500
_NO_TTL = -1
UUIDS = "????????-????-????-????-????????????"
"""Matches ids as most libraries make them."""


@dataclass(frozen=True, slots=True)
class OldDenylist:
    """Where it is, and what it looks like.

    Attributes:
        url: The Redis.
        prefix: What stands before the id in a key.
        pattern: What the id looks like, as in Redis's ``SCAN``.
        value: What a revoked one holds; None where any value will do.
    """

    url: str
    prefix: str
    pattern: str
    value: str | None

    async def revocations(
        self, settings: Settings, issuer: str, clock: Clock
    ) -> AsyncIterator[list[Revocation]]:
        """Yield what is revoked there, some hundreds at a time; some of it perhaps twice.

        Each lives for as long as its key, and for the longest life of a token if that lives for
        ever.

        Args:
            settings: How long tokens live, and by how much clocks may differ.
            issuer: The ``iss`` of the tokens.
            clock: Tells the time.

        Raises:
            redis.RedisError: It cannot be read.
            ValueError: The URL is none.
        """
        keys: list[bytes] = []
        glob = "".join(f"\\{each}" if each in "*?[]\\^-" else each for each in self.prefix)
        async with Redis.from_url(self.url, decode_responses=False) as redis:
            async for key in redis.scan_iter(match=glob + self.pattern, count=_AT_ONCE):
                keys.append(key)
                if len(keys) >= _AT_ONCE:
                    yield await self._read(redis, keys, settings, issuer, clock)
                    keys = []
            yield await self._read(redis, keys, settings, issuer, clock)

    async def _read(
        self, redis: Redis, keys: list[bytes], settings: Settings, issuer: str, clock: Clock
    ) -> list[Revocation]:
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
                pipe.pttl(key)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        now, found = clock.wall(), []
        for key, value, left in zip(keys, answers[::2], answers[1::2], strict=True):
            jti = key.decode(errors="replace")[len(self.prefix) :]
            if not isinstance(value, bytes) or not isinstance(left, int):
                continue  # it holds something else
            if not is_identifier(jti) or (self.value is not None and value != self.value.encode()):
                continue
            life = settings.longest_life if left == _NO_TTL else left / 1000 + 2 * settings.leeway
            expires_at = min(float(math.ceil(now + life)), MAX_EXPIRES_AT)
            found.append(Revocation("jti", jti, expires_at, issuer=issuer))
        return found
