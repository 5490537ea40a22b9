"""What tests import from each other."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from revokebus.clock import SystemClock
from revokebus.protocol.cut_offs import CutOffs
from revokebus.protocol.fleet import Fleet
from revokebus.protocol.wire import DATA_VERSION
from revokebus.store.parts import StoreParts
from revokebus.tasks import end
from revokebus.telemetry.counters import Counters
from revokebus.tokens.issuer import Issuer
from revokebus.tokens.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from revokebus import AccessToken, RefreshToken, Settings
    from revokebus.clock import Clock
    from revokebus.engine.engine import Engine
    from revokebus.testing import RedisServer

    Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@asynccontextmanager
async def opened(settings: Settings, clock: Clock | None = None) -> AsyncIterator[StoreParts]:
    """Make the parts of a store, and close them."""
    parts = StoreParts.of(settings, clock or SystemClock())
    try:
        yield parts
    finally:
        await parts.close()


def settle(redis_server: RedisServer, namespace: str = "revokebus") -> None:
    """Make a data set that is old, so that a first start need not wait for others."""
    with redis_server.client() as client:
        server, persistence = client.info("server"), client.info("persistence")
        loaded = (
            client.info("replication")["master_replid"],
            persistence.get("rdb_last_load_keys_loaded", ""),
            persistence.get("rdb_last_load_keys_expired", ""),
        )
        meta = {
            "epoch": secrets.token_hex(16),
            "format": str(DATA_VERSION),
            "began": "1",
            "server": server["run_id"],
            "loaded": " ".join(map(str, loaded)),
        }
        client.hset(f"{{{namespace}}}:meta", mapping=meta)
        client.hset(f"{{{namespace}}}:instances", "since", "1000")


def make_issuer(settings: Settings, clock: Clock) -> Issuer:
    """Return an issuer that knows of no cut-off."""
    return Issuer(settings, clock, CutOffs(clock, settings.leeway), make_fleet(clock))


def make_fleet(clock: Clock) -> Fleet:
    """Return a fleet of one instance."""
    return Fleet(clock, leeway=0.0, longest_life=0.0, is_alone=True)


def make_verifier(settings: Settings, clock: Clock) -> Verifier:
    """Return a verifier whose counters are not read."""
    return Verifier(settings, clock, Counters())


def verify(verifier: Verifier, encoded: str) -> AccessToken | RefreshToken:
    """Return the token that `encoded` is, if it is genuine and its time has come and not passed."""
    token = verifier.verify_signature(encoded)
    verifier.check_time(token)
    return token


async def until_quiet(engine: Engine) -> None:
    """Wait until `engine` is subscribed, and the tick that follows a subscription is over.

    With long intervals it then does nothing by itself.
    """
    run = engine._backend._started.run  # type: ignore[attr-defined]  # a RedisBackend's
    async with asyncio.timeout(10):
        while not engine.status().subscribed:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.005)
        for _ in range(2):  # the first that ends may have begun before
            read = run.read
            run.wake.set()
            await read.wait()


async def end_ticks(engine: Engine) -> None:
    """Let `engine` prove its copy no more, as if its ticker hung."""
    started = engine._backend._started  # type: ignore[attr-defined]  # a RedisBackend's
    await end([task for task in started.tasks if task.get_name() == "revokebus-ticker"])


SECRET = secrets.token_urlsafe(64)


class MakeSettings(Protocol):
    def __call__(self, redis_url: str = "memory://", **changes: Any) -> Settings: ...
