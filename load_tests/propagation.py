"""From `revoke` in one process to refused in another, against a bare PUBLISH and subscriber.

Both processes read the same monotonic clock, as they are on one machine.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from load_tests.measure import at_most, log_errors_only, percentile, progress, tell
from load_tests.revoke import token
from revokebus.engine.engine import Engine
from revokebus.settings.settings import Settings
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    from revokebus.protocol.revocation import Revocation

ROUNDS = 10
EACH = 100
BARS = {50: 1.3, 99: 1.5}
_PAUSE = 0.002
_CHANNEL = "bench"


async def hear(url: str) -> None:
    """Be the other process: print when each thing that a line names was heard."""
    settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url=url)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    heard: dict[str, float] = {}

    def refused(revocation: Revocation) -> None:
        heard[str(revocation.value)] = now()

    redis = Redis.from_url(url)
    async with Engine(settings) as engine, redis.pubsub() as pubsub:
        await pubsub.subscribe(_CHANNEL)
        engine._denylist.on_add = refused  # noqa: SLF001 - the moment from which it is refused

        async def listen() -> None:
            async for message in pubsub.listen():
                if message["type"] == "message":
                    heard[message["data"].decode()] = now()

        listening = asyncio.create_task(listen())
        print("ready", flush=True)
        while line := (await lines.readline()).decode().strip():
            while line not in heard:  # noqa: ASYNC110 - an event would be set in what is measured
                await asyncio.sleep(_PAUSE)
            print(heard.pop(line), flush=True)
        listening.cancel()
    await redis.aclose()


def now() -> float:
    """Return the monotonic time that all processes of this machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


async def measure(url: str, other: asyncio.subprocess.Process) -> dict[str, list[float]]:
    """Return how long each took, in seconds."""
    assert other.stdin is not None
    assert other.stdout is not None
    assert (await other.stdout.readline()).strip() == b"ready"
    took: dict[str, list[float]] = {"ours": [], "PUBLISH": []}
    redis = Redis.from_url(url)
    async with Engine(Settings(secret_key=secrets.token_urlsafe(64), redis_url=url)) as engine:
        for each in range(-1, ROUNDS):
            for name in random.sample(list(took), len(took)):
                for _ in range(EACH):
                    revoked = token()
                    began = now()
                    if name == "ours":
                        await engine.revoke(revoked)
                    else:
                        await redis.publish(_CHANNEL, revoked.jti)
                    other.stdin.write(f"{revoked.jti}\n".encode())
                    heard_at = float(await other.stdout.readline())
                    if each >= 0:
                        took[name].append(heard_at - began)
                    await asyncio.sleep(_PAUSE)
            progress((each + 1) / ROUNDS)
    await redis.aclose()
    return took


async def compare() -> None:
    """Start the other process, and measure."""
    with RedisServer() as server:
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "load_tests.propagation", server.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            took = await measure(server.url, other)
        finally:
            other.kill()
            await other.wait()
    for percent, bar in BARS.items():
        ours, theirs = (percentile(took[name], percent) * 1e3 for name in ("ours", "PUBLISH"))
        what = f"revoked at A to refused at B, p{percent}"
        tell(at_most(what, "PUBLISH to a subscriber of redis-py", ours, theirs, "ms", bar))


if __name__ == "__main__":
    log_errors_only()
    asyncio.run(hear(sys.argv[1]) if len(sys.argv) > 1 else compare())
