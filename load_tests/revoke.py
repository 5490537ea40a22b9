"""What a revocation costs its author: `revoke`, and `revoke_many`."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from load_tests.measure import at_least, at_most, log_errors_only, medians, percentile, tell
from load_tests.revocations import LIFE
from revokebus.engine.engine import Engine
from revokebus.settings.settings import Settings
from revokebus.testing import RedisServer
from revokebus.tokens.claims import AccessToken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 30
EACH = 200
BAR = 1.6
MANY = 100_000
MANY_ROUNDS = 3
MANY_BAR = 0.5
_PIPELINED = 1000


def token() -> AccessToken:
    """Return a verified token, without the time that signing one takes."""
    now = time.time()
    return AccessToken(
        subject="alice",
        jti=secrets.token_urlsafe(16),
        session_id=secrets.token_urlsafe(16),
        issued_at=now,
        expires_at=now // 1 + LIFE,
        not_before=0.0,
        scopes=frozenset(),
        auth_time=now,
        fresh=False,
        issuer="",
        since=now,
        verified_claims={},  # type: ignore[arg-type]  # nobody reads them
    )


async def median_of(work: Callable[[], Awaitable[object]]) -> float:
    """Return the median of how long `work` takes, in seconds."""
    took = []
    for _ in range(EACH):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return percentile(took, 50)


def main() -> None:
    """Measure one at a time, and then many at once."""
    loop = asyncio.new_event_loop()
    with RedisServer() as server:
        engine = Engine(Settings(secret_key=secrets.token_urlsafe(64), redis_url=server.url))
        redis = Redis.from_url(server.url)
        loop.run_until_complete(engine.start())
        try:
            one(loop, engine, redis)
            many(loop, engine, redis)
        finally:
            loop.run_until_complete(engine.close())
            loop.run_until_complete(redis.aclose())


def one(loop: asyncio.AbstractEventLoop, engine: Engine, redis: Redis) -> None:
    """Compare `revoke` with SETEX."""

    async def setex() -> object:
        return await redis.set(secrets.token_urlsafe(16), "true", ex=int(LIFE))

    took = medians(
        ROUNDS,
        {
            "ours": lambda: loop.run_until_complete(median_of(lambda: engine.revoke(token()))),
            "SETEX": lambda: loop.run_until_complete(median_of(setex)),
        },
    )
    ours, theirs = took["ours"] * 1e6, took["SETEX"] * 1e6
    tell(at_most("revoke() acknowledged, p50", "SETEX by redis-py", ours, theirs, "µs", BAR))


def many(loop: asyncio.AbstractEventLoop, engine: Engine, redis: Redis) -> None:
    """Compare `revoke_many` with SETEX in pipelines of a thousand."""

    async def pipelined(ids: list[str]) -> None:
        for first in range(0, len(ids), _PIPELINED):
            async with redis.pipeline(transaction=False) as pipe:
                for each in ids[first : first + _PIPELINED]:
                    pipe.set(f"revoked:{each}", "true", ex=int(LIFE))
                await pipe.execute()

    def ours() -> float:
        tokens = [token() for _ in range(MANY)]
        began = time.perf_counter()
        loop.run_until_complete(engine.revoke_many(tokens))
        return MANY / (time.perf_counter() - began)

    def theirs() -> float:
        ids = [secrets.token_urlsafe(16) for _ in range(MANY)]
        began = time.perf_counter()
        loop.run_until_complete(pipelined(ids))
        return MANY / (time.perf_counter() - began)

    rate = medians(MANY_ROUNDS, {"ours": ours, "SETEX": theirs})
    what = f"revoke_many of {MANY:,}"
    tell(at_least(what, "SETEX, pipelined", rate["ours"], rate["SETEX"], "/s", MANY_BAR))


if __name__ == "__main__":
    log_errors_only()
    main()
