"""A denylist that another library keeps in Redis: a key for each revoked ``jti``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError

from revokebus.errors import UnavailableError
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import MAX_EXPIRES_AT
from revokebus.settings.redis_url import parse_redis_url
from revokebus.tokens.claims import is_identifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from revokebus.clock import Clock
    from revokebus.settings.settings import Settings

_AT_ONCE = 500
_NO_TTL, _GONE = -1, -2
UUIDS = "????????-????-????-????-????????????"
"""Matches ids as most libraries make them."""


@dataclass(frozen=True, slots=True)
class Found:
    """Some of what is there.

    Attributes:
        revocations: What is revoked.
        passed_over: How many keys look like it, and hold something else.
    """

    revocations: list[Revocation]
    passed_over: int


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
    ) -> AsyncIterator[Found]:
        """Yield what is revoked there, some hundreds at a time; some of it perhaps twice.

        Each lives for as long as its key, and for the longest life of a token if that lives for
        ever.

        Args:
            settings: How long tokens live, and by how much clocks may differ.
            issuer: The ``iss`` of the tokens.
            clock: Tells the time.

        Raises:
            UnavailableError: It cannot be read to its end.
            ValueError: The URL is none of a Redis.
        """
        glob = "".join(f"\\{each}" if each in "*?[]\\^-" else each for each in self.prefix)
        try:
            async with await self._opened() as redis:
                keys: list[bytes] = []
                async for key in redis.scan_iter(match=glob + self.pattern, count=_AT_ONCE):
                    keys.append(key)
                    if len(keys) >= _AT_ONCE:
                        yield await self._read(redis, keys, settings, issuer, clock)
                        keys = []
                yield await self._read(redis, keys, settings, issuer, clock)
        except (RedisError, OSError) as error:
            message = f"the Redis of OLD_REDIS_URL: {error}".rstrip(".")
            raise UnavailableError(message) from None

    async def _opened(self) -> Redis | RedisCluster:
        """Return a client; of the whole cluster, where the server is a part of one."""
        try:
            kind = parse_redis_url(self.url).kind
        except ValueError as error:
            raise ValueError(f"OLD_REDIS_URL {error}") from None
        if kind != "single":
            raise ValueError("OLD_REDIS_URL must name one server, or one node of a cluster")
        redis = Redis.from_url(self.url)
        try:
            info = await redis.info("cluster")
        except ResponseError:  # a user without INFO; in a cluster the first key then tells
            info = {}
        if not info.get("cluster_enabled"):
            return redis
        await redis.aclose()
        return RedisCluster.from_url(self.url)

    async def _read(
        self,
        redis: Redis | RedisCluster,
        keys: list[bytes],
        settings: Settings,
        issuer: str,
        clock: Clock,
    ) -> Found:
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
                pipe.pttl(key)
            answers: list[Any] = await pipe.execute(raise_on_error=False) if keys else []
        now, found, passed_over = clock.wall(), [], 0
        for key, value, left in zip(keys, answers[::2], answers[1::2], strict=True):
            for answer in (value, left):
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
            if value is None or left == _GONE:
                continue  # it has expired meanwhile
            jti = key[len(self.prefix.encode()) :].decode(errors="replace")
            if not self._is_wanted(value) or not is_identifier(jti) or "\ufffd" in jti:
                passed_over += 1
                continue
            life = settings.longest_life if left == _NO_TTL else left / 1000 + 2 * settings.leeway
            expires_at = min(float(math.ceil(now + life)), MAX_EXPIRES_AT)
            found.append(Revocation("jti", jti, expires_at, issuer=issuer))
        return Found(found, passed_over)

    def _is_wanted(self, value: object) -> bool:
        if not isinstance(value, bytes):
            return False
        return self.value is None or value == self.value.encode()
