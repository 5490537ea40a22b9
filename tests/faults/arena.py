"""A fleet under load on real servers, with witnesses, and a naive listener as the control."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from redis.exceptions import RedisError

from revokebus import Settings
from revokebus.clock import SystemClock
from revokebus.engine.engine import Engine
from revokebus.errors import UnavailableError
from revokebus.protocol.revocation import Revocation
from tests.faults.control import NaiveListener
from tests.faults.history import Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

INSTANCES = 3
BOUND = 2.0
PROMISED_SECONDS = 2.0
"""Within how many seconds after a fault is over everybody must be fresh again."""

MORE_FOR_READERS = 2.0
"""How many more, where the fleet reads from a replica."""

_LIFE = 1800.0
_PAUSE = 0.004
_LOOK = 0.01
_PATIENCE = 20.0
_MISSING_SECONDS = 5.0
_ASKED_AT_ONCE = 1000


class Servers(Protocol):
    """Real servers, as the fleet and its faults see them."""

    @property
    def url(self) -> str:
        """Where they are, for ``Settings.redis_url``."""

    def client(self) -> redis.Redis:
        """Return a client of the server that is written to."""


AnyServers = TypeVar("AnyServers", bound=Servers)


class SteppedClock(SystemClock):
    """The machine's clocks, the wall clock set wrongly on purpose."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        """Return seconds since the epoch, as a machine whose clock was set says."""
        return super().wall() + self.ahead


class Instance:
    """An engine that can be replaced, as a process that is restarted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.clock = SteppedClock()
        self.engine = Engine(settings, clock=self.clock)
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
        self.engine = Engine(self._settings, clock=self.clock)
        self.generation += 1
        await self.engine.start()


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        fault: Its name.
        acknowledged: How many revocations Redis has acknowledged.
        bound: Violations of G1.
        forgotten: Violations of G2.
        lies: Violations of G3.
        missing: Acknowledged revocations that an instance lacks at the end.
        unrecorded: Acknowledged revocations that Redis lacks at the end.
        seconds_to_fresh: Time from the end of the fault until all instances were fresh for good.
        stale_seconds: For how long the instance that was stale for longest was.
        control: How many violations and missing revocations the naive listener had.
        promised: Within how many seconds all must be fresh.
    """

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
    promised: float = PROMISED_SECONDS

    @property
    def kept(self) -> bool:
        """Whether no promise was broken."""
        broken = self.bound + self.forgotten + self.lies + self.missing + self.unrecorded
        return broken == 0 and self.acknowledged > 0

    @property
    def held(self) -> bool:
        """Whether, besides, everybody was fresh again in time."""
        return self.kept and self.seconds_to_fresh <= self.promised


class Arena(Generic[AnyServers]):
    """The fleet, its load, its witnesses.

    Args:
        servers: The servers that the faults are done to.
        seed: Makes a run repeatable, as far as a scheduler allows.
        settings: Settings of the fleet that differ from the usual.
        control: Whether a naive listener runs beside it.

    Attributes:
        rng: What a fault draws its chances from.
        instances: The fleet.
        acknowledged: When each revocation was acknowledged, in elapsed seconds.
    """

    def __init__(
        self,
        servers: AnyServers,
        seed: int,
        settings: dict[str, Any] | None = None,
        *,
        control: bool = True,
    ) -> None:
        self.servers = servers
        self.rng = random.Random(seed)  # noqa: S311 - to repeat a run, not a secret
        self.settings = Settings(
            redis_url=servers.url,
            secret_key=secrets.token_urlsafe(64),
            max_staleness=BOUND,
            **(settings or {}),
        )
        self.instances = [Instance(self.settings) for _ in range(INSTANCES)]
        self.acknowledged: dict[str, float] = {}
        self._control = NaiveListener(servers.url, "{revokebus}:ch") if control else None
        self._clock = SystemClock()
        self._over_at: list[float] = []
        self._last_stale_at = 0.0
        self._witnesses = [self._witness(each) for each in self.instances]
        self._control_witness = self._witness(self._control) if self._control else None

    def _witness(self, instance: Instance | NaiveListener) -> Witness:
        return Witness(instance, self.acknowledged, BOUND, self.rng)

    def over(self) -> None:
        """Note that the servers are well again, where a fault ends before its function does."""
        self._over_at.append(self._clock.elapsed())

    async def run(
        self,
        name: str,
        faults: list[Callable[[Arena[AnyServers]], Awaitable[None]]],
        *,
        before: float,
        after: float,
    ) -> Outcome:
        """Run the fleet under load, `before` and `after` each fault, and judge what was seen."""
        async with contextlib.AsyncExitStack() as stack:
            for instance in self.instances:
                stack.push_async_callback(instance.close)
                await instance.engine.start()
            await self._start_control(stack)
            stack.push_async_callback(_cancel, asyncio.create_task(self._watch()))
            load = asyncio.create_task(self._revoke())
            stack.push_async_callback(_cancel, load)
            slowest = 0.0
            for fault in faults:
                await asyncio.sleep(before)
                await self._inject(fault)
                await asyncio.sleep(after)
                slowest = max(slowest, self._seconds_to_fresh())
            await _cancel(load)
            with contextlib.suppress(TimeoutError):
                await self._until(lambda: self._nothing_missing() and self._all_fresh())
            return await self._judge(name, slowest)

    async def _start_control(self, stack: contextlib.AsyncExitStack) -> None:
        if self._control is None:
            return
        listener = asyncio.create_task(self._control.run())
        stack.push_async_callback(_cancel, listener)
        async with asyncio.timeout(_PATIENCE):
            await self._control.subscribed.wait()  # it has its chance

    async def _inject(self, fault: Callable[[Arena[AnyServers]], Awaitable[None]]) -> None:
        """Do one fault, and wait until everybody is fresh."""
        self._over_at.clear()
        await fault(self)
        self.over()
        with contextlib.suppress(TimeoutError):
            await self._until(self._all_fresh)

    def _seconds_to_fresh(self) -> float:
        """Return for how long after the last fault somebody was not fresh."""
        return max(0.0, self._last_stale_at - self._over_at[0])

    async def _revoke(self) -> None:
        for number in itertools.count():
            jti = f"token-{number}"
            engine = self.rng.choice(self.instances).engine
            revocation = Revocation("jti", jti, self._clock.wall() + _LIFE)
            with contextlib.suppress(UnavailableError):
                await engine._revoker.revoke([revocation])
                self.acknowledged[jti] = self._clock.elapsed()
            await asyncio.sleep(_PAUSE)

    async def _watch(self) -> None:
        control = [self._control_witness] if self._control_witness else []
        witnesses = [*self._witnesses, *control]
        while True:
            for witness in witnesses:
                witness.look(self._clock.elapsed())
            if not self._all_fresh():
                self._last_stale_at = self._clock.elapsed()
            await asyncio.sleep(_LOOK)

    def _all_fresh(self) -> bool:
        return all(each.engine.status().state == "fresh" for each in self.instances)

    def _nothing_missing(self) -> bool:
        return all(each.knows(jti) for each in self.instances for jti in self.acknowledged)

    async def _until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 - the servers have no event to set
                await asyncio.sleep(_LOOK)

    async def _unrecorded(self) -> int:
        """Return how many acknowledged revocations Redis does not hold in the end."""
        deadline = self._clock.elapsed() + _MISSING_SECONDS
        lacking = list(self.acknowledged)
        while True:
            with contextlib.suppress(RedisError):
                lacking = await asyncio.to_thread(self._lacking, lacking)
            if not lacking or self._clock.elapsed() > deadline:
                return len(lacking)
            await asyncio.sleep(self.settings.tick_interval)

    def _lacking(self, tokens: list[str]) -> list[str]:
        found: list[object] = []
        with self.servers.client() as client:
            for start in range(0, len(tokens), _ASKED_AT_ONCE):
                some = tokens[start : start + _ASKED_AT_ONCE]
                values = client.mget([f"{{revokebus}}:r:jti:{jti}" for jti in some])
                assert isinstance(values, list)
                found += values
        return [jti for jti, value in zip(tokens, found, strict=True) if not value]

    async def _judge(self, name: str, seconds_to_fresh: float) -> Outcome:
        unrecorded = await self._unrecorded()
        missing = sum(witness.finish() for witness in self._witnesses)
        verdicts = [witness.verdict for witness in self._witnesses]
        control = 0
        if self._control_witness:
            control = self._control_witness.finish() + self._control_witness.verdict.violations
        return Outcome(
            fault=name,
            acknowledged=len(self.acknowledged),
            bound=sum(len(each.bound) for each in verdicts),
            forgotten=sum(len(each.forgotten) for each in verdicts),
            lies=sum(len(each.lies) for each in verdicts),
            missing=missing,
            unrecorded=unrecorded,
            seconds_to_fresh=seconds_to_fresh,
            stale_seconds=max(witness.stale_seconds for witness in self._witnesses),
            control=control,
            promised=PROMISED_SECONDS + MORE_FOR_READERS * self.settings.reads_from_replica,
        )


async def _cancel(task: asyncio.Task[Any]) -> None:
    while not task.done():  # redis-py can lose a cancellation
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
