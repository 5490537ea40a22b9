"""A fleet under load on a real server, with witnesses, and a naive listener as the control."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.exceptions import RedisError

from revokebus import Settings
from revokebus.clock import SystemClock
from revokebus.engine import Engine
from revokebus.errors import UnavailableError, WireError
from revokebus.revocation import Revocation
from revokebus.wire import decode_message, decode_payload
from tests.faults.history import Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus.testing import RedisServer

    Fault = Callable[["Arena"], Awaitable[None]]

INSTANCES = 3
BOUND = 1.0
TICK = 0.25
_LIFE = 3600.0
_PAUSE = 0.004
_LOOK = 0.01
_PATIENCE = 20.0
_MISSING_SECONDS = 5.0


class Instance:
    """An engine that can be replaced, as a process that is restarted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = Engine(settings)
        self.generation = 0

    def knows(self, jti: str) -> bool:
        """Return whether the copy has the token."""
        return self.engine.is_revoked({"jti": jti})

    def staleness(self) -> float | None:
        """Return the age that the engine claims, None where it claims nothing."""
        status = self.engine.status()
        return status.staleness if status.state in ("fresh", "stale") else None

    async def close(self) -> None:
        """Close the engine that runs at the moment."""
        await self.engine.close()

    async def restart(self) -> None:
        """Begin anew, knowing nothing."""
        await self.engine.close()
        self.engine = Engine(self._settings)
        self.generation += 1
        await self.engine.start()


class NaiveListener:
    """What the usual listener does: subscribe, and believe that it hears everything."""

    def __init__(self, url: str, channel: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)
        self._channel = channel
        self._known: set[str] = set()
        self.generation = 0
        self.subscribed = asyncio.Event()

    def knows(self, jti: str) -> bool:
        """Return whether a message has named the token."""
        return jti in self._known

    def staleness(self) -> float | None:
        """Return a tenth of a second: it never doubts, and messages take a moment."""
        return 0.1

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                with contextlib.suppress(RedisError):
                    await self._listen()
        finally:
            await self._client.aclose(close_connection_pool=True)

    async def _listen(self) -> None:
        pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                self.subscribed.set()
                if message["type"] == "message":
                    with contextlib.suppress(WireError):
                        for each in decode_payload(decode_message(message["data"]).payload):
                            self._known.add(each.value)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has no annotation


@dataclass(frozen=True)
class Outcome:
    """What one fault did."""

    fault: str
    acknowledged: int
    bound: int
    forgotten: int
    lies: int
    missing: int
    unrecorded: int
    seconds_to_fresh: float
    stale_seconds: float
    control: int

    @property
    def held(self) -> bool:
        """Whether every promise held."""
        broken = self.bound + self.forgotten + self.lies + self.missing + self.unrecorded
        return broken == 0 and self.acknowledged > 0


class Arena:
    """The fleet, its load, its witnesses.

    Args:
        server: The Redis that the faults are done to.
        seed: Makes a run repeatable, as far as a scheduler allows.
    """

    def __init__(self, server: RedisServer, seed: int) -> None:
        self.server = server
        self.rng = random.Random(seed)  # noqa: S311 - to repeat a run, not a secret
        self.settings = Settings(
            redis_url=server.url,
            secret_key=secrets.token_urlsafe(64),
            tick_interval=TICK,
            max_staleness=BOUND,
            redis_timeout=0.4,
            startup_timeout=3.0,
        )
        self.instances = [Instance(self.settings) for _ in range(INSTANCES)]
        self._control = NaiveListener(server.url, "{revokebus}:ch")
        self._clock = SystemClock()
        self._acknowledged: dict[str, float] = {}
        self._witnesses = [self._witness(each) for each in self.instances]
        self._control_witness = self._witness(self._control)

    def _witness(self, instance: Instance | NaiveListener) -> Witness:
        return Witness(instance, self._acknowledged, BOUND, self.rng)

    async def run(self, name: str, fault: Fault, *, before: float, after: float) -> Outcome:
        """Run the fleet under load, `before` and `after` a fault, and judge what was seen."""
        async with contextlib.AsyncExitStack() as stack:
            for instance in self.instances:
                await instance.engine.start()
                stack.push_async_callback(instance.close)
            for work in (self._control.run(), self._watch()):
                stack.push_async_callback(_cancel, asyncio.create_task(work))
            await self._control.subscribed.wait()  # it has its chance
            load = asyncio.create_task(self._revoke())
            stack.push_async_callback(_cancel, load)
            await asyncio.sleep(before)
            await fault(self)
            healed = time.monotonic()
            await self._until(self._all_fresh)
            seconds_to_fresh = time.monotonic() - healed
            await asyncio.sleep(after)
            await _cancel(load)
            with contextlib.suppress(TimeoutError):
                await self._until(lambda: self._nothing_missing() and self._all_fresh())
            return await self._judge(name, seconds_to_fresh)

    async def _revoke(self) -> None:
        for number in itertools.count():
            jti = f"token-{number}"
            engine = self.rng.choice(self.instances).engine
            revocation = Revocation("jti", jti, self._clock.wall() + _LIFE)
            with contextlib.suppress(UnavailableError):
                await engine._revoke([revocation])
                self._acknowledged[jti] = self._clock.elapsed()
            await asyncio.sleep(_PAUSE)

    async def _watch(self) -> None:
        while True:
            for witness in (*self._witnesses, self._control_witness):
                witness.look(self._clock.elapsed())
            await asyncio.sleep(_LOOK)

    def _all_fresh(self) -> bool:
        return all(each.engine.status().state == "fresh" for each in self.instances)

    def _nothing_missing(self) -> bool:
        return all(each.knows(jti) for each in self.instances for jti in self._acknowledged)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 - the server has no event to set
                await asyncio.sleep(_LOOK)

    async def _unrecorded(self) -> int:
        """Return how many acknowledged revocations Redis does not hold in the end."""
        deadline = time.monotonic() + _MISSING_SECONDS
        keys = [f"{{revokebus}}:r:jti:{jti}" for jti in self._acknowledged]
        while True:
            with self.server.client() as client:
                present = len([1 for value in client.mget(keys) if value]) if keys else 0
            if present == len(keys) or time.monotonic() > deadline:
                return len(keys) - present
            await asyncio.sleep(TICK)

    async def _judge(self, name: str, seconds_to_fresh: float) -> Outcome:
        unrecorded = await self._unrecorded()
        missing = sum(witness.finish() for witness in self._witnesses)
        control_missing = self._control_witness.finish()
        verdicts = [witness.verdict for witness in self._witnesses]
        return Outcome(
            fault=name,
            acknowledged=len(self._acknowledged),
            bound=sum(len(each.bound) for each in verdicts),
            forgotten=sum(len(each.forgotten) for each in verdicts),
            lies=sum(len(each.lies) for each in verdicts),
            missing=missing,
            unrecorded=unrecorded,
            seconds_to_fresh=seconds_to_fresh,
            stale_seconds=max(witness.stale_seconds for witness in self._witnesses),
            control=self._control_witness.verdict.violations + control_missing,
        )


async def _cancel(task: asyncio.Task[Any]) -> None:
    while not task.done():  # redis-py can lose a cancellation
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
