"""Runs one history, and judges what was acknowledged and answered in it."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.simulation.checkers import Judge, Violation
from tests.simulation.faults import FAULTS, NOT_FOR_SESSIONS, ON_KEYS, drawn
from tests.simulation.load import Load
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import READS, World, no_other_chance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.faults import Event
    from tests.simulation.servers import Topology

_TOPOLOGIES: tuple[Topology, ...] = ("single", "address", "sentinel", "cluster")
_LATENCIES = 0.0002, 0.0002, 0.0002, 0.0002, 0.002, 0.002, 0.02, 0.02, 0.08, 0.15
_TICKS, _BOUNDS = (0.5, 0.5, 0.5, 0.5, 0.2, 0.2, 2.0, 5.0), (2.0, 4.0, 15.0)
_USUAL_TICK, _FAR = 0.5, 0.02
_WAYS, _WAYS_OF_A_REQUEST = 90, 12
_READ_FROM_REPLICAS = 0.25
_STARTED_WITHIN, _QUIET, _ARRIVED_WITHIN = 2.0, 6.5, 1.5
_LOOK = 0.05
# A key of another type is an error first, and each error costs half a second.
_MADE_ANEW = 0.5
_NOTICED_WITHIN = 4.0
_TOLD_BY_REPLICAS = 3.0
_HELD_PER_SLOW, _LONGEST_WAY = 2.4, 4.0


def _settings(rng: random.Random, topology: Topology, latency: float) -> dict[str, Any]:
    """Return what an instance may be set to, among others that are set otherwise."""
    tick = rng.choice(_TICKS)
    least = 2 * tick + 0.1 + 20 * latency
    return {
        "tick_interval": tick,
        "max_staleness": rng.choice([*(each for each in _BOUNDS if each >= least), least + 1]),
        "access_ttl": rng.choice((300, 900)),
        "refresh_ttl": rng.choice((1800.0, 3600.0, 7200.0)),
        "redis_timeout": max(1.0, _WAYS_OF_A_REQUEST * latency),
        "rotation_grace": 30.0 if latency > _FAR else rng.choice((8.0, 30.0)),
        "min_replicas": 0 if topology == "single" else rng.choice((0, 0, 0, 1)),
    }


@dataclass(frozen=True)
class Plan:
    """What is decided before a history runs.

    Attributes:
        seed: Decides the rest.
        topology: The servers.
        settings: Of each instance.
        seconds: For how long faults are done.
        pause: Seconds between two revocations.
        latency: Of each way, there or back, in seconds.
        events: The faults.
        fresh_within: Within how many seconds after the last fault every instance is to be fresh,
            if Redis is near and nobody ticks more slowly than usual.
    """

    seed: int
    topology: Topology
    settings: list[dict[str, Any]]
    seconds: float
    pause: float
    latency: float
    events: Sequence[Event] = field(default_factory=list)
    fresh_within: float = 2.0

    @classmethod
    def drawn(cls, seed: int) -> Plan:
        """Return the plan of a seed."""
        rng = random.Random(seed)  # noqa: S311 - to repeat a run
        topology = rng.choice(_TOPOLOGIES)
        # Drawn apart, so that histories in which none reads from a replica stay what they were.
        others = random.Random(-1 - seed)  # noqa: S311 - likewise
        reads = others.random() < _READ_FROM_REPLICAS
        if reads and topology == "single":
            topology = "replica"
        seconds = rng.choice((2.0, 4.0, 8.0))
        latency = rng.choice(_LATENCIES)
        common = _settings(rng, topology, latency)
        differ = rng.random() < 0.5
        settings = [
            _settings(rng, topology, latency) if differ else dict(common)
            for _ in range(rng.choice((2, 3, 3, 4)))
        ]
        for each in settings:
            each[READS] = reads
        return cls(
            seed=seed,
            topology=topology,
            settings=settings,
            seconds=seconds,
            pause=rng.choice((0.05, 0.1, 0.5)),
            latency=latency,
            events=drawn(rng, topology, seconds, rng.randint(1, 8), reads=reads),
        )

    @property
    def slack(self) -> float:
        """By how many seconds everything may be slower than where all is near and as usual."""
        slowest: float = max(each.get("tick_interval", _USUAL_TICK) for each in self.settings)
        return _WAYS * self.latency + 2.2 * max(0.0, slowest - _USUAL_TICK)

    def count(self, kind: str) -> int:
        """Return how many of the faults are of a kind."""
        return sum(each.kind == kind for each in self.events)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.topology}, {len(self.settings)} instances"
        lines = [f"{head}, {1000 * self.latency:g} ms away, a revocation each {self.pause:g} s"]
        lines += map(str, self.settings)
        return "\n  ".join([*lines, *map(str, self.events)])


@dataclass(frozen=True)
class Outcome:
    """What a history has shown.

    Attributes:
        plan: What was done.
        violations: Which promises were broken.
        acknowledged: How many revocations were.
        seconds: How long it was, in virtual time.
        trace: What was logged, where that was asked for.
    """

    plan: Plan
    violations: list[Violation]
    acknowledged: int
    seconds: float
    trace: list[str]


class _Trace(logging.Handler):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop
        self.lines: list[str] = []
        self.errors: list[str] = []

    def fail(self, _: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        """Take notice of an error that nobody has expected."""
        self.errors.append(f"{what['message']}: {what.get('exception')!r}")

    def emit(self, record: logging.LogRecord) -> None:
        from tests.simulation.loop import current  # noqa: PLC0415

        who = current()
        self.lines.append(f"{self._loop.time() - 1000:8.3f} {who or ''} {record.getMessage()}")


def run(plan: Plan) -> Outcome:
    """Run a history."""
    loop = SimulatedLoop()
    trace = _Trace(loop)
    logger = logging.getLogger("revokebus")
    before = logger.handlers[:], logger.propagate
    logger.handlers, logger.propagate = [trace], False
    try:
        with no_other_chance(plan.seed):
            asyncio.set_event_loop(loop)
            loop.set_exception_handler(trace.fail)
            try:
                return loop.run_until_complete(_History(loop, plan, trace).run())
            except (
                RuntimeError
            ) as error:  # the loop's own: nothing happens, or something without end
                violation = Violation("loop", loop.time() - 1000, str(error))
                return Outcome(plan, [violation], 0, loop.time() - 1000, trace.lines)
    finally:
        logger.handlers, logger.propagate = before
        loop.close()
        asyncio.set_event_loop(None)


class _History:
    def __init__(self, loop: SimulatedLoop, plan: Plan, trace: _Trace) -> None:
        self._loop = loop
        self._plan = plan
        self._trace = trace
        self._world = World(loop, plan.seed, plan.topology, plan.settings, plan.latency)
        fresh_within = plan.fresh_within + plan.slack + _MADE_ANEW * plan.count("wrong_type")
        # A hold is as long as the slowest way that was measured lately makes it.
        # One that reads from a replica may not be told by that, and all are held for so long.
        if any(each.get(READS) for each in plan.settings):
            fresh_within += _TOLD_BY_REPLICAS
        # Older data in the same process are noticed when someone exchanges a refresh token.
        fresh_within += _NOTICED_WITHIN * (plan.count("reload") > 0)
        fresh_within += min(_LONGEST_WAY, _HELD_PER_SLOW * plan.count("slow"))
        self._judge = Judge(self._world, fresh_within, plan.slack)
        usual = not any(each.kind in NOT_FOR_SESSIONS for each in plan.events)
        self._load = Load(self._world, self._judge, plan.pause, with_sessions=usual)

    async def run(self) -> Outcome:
        world, plan = self._world, self._plan
        began = self._loop.time()
        load = asyncio.create_task(self._load.run())
        look = asyncio.create_task(self._look())
        await asyncio.sleep(_STARTED_WITHIN)
        faults_began = self._loop.time()
        undone = [asyncio.create_task(self._do(event, faults_began)) for event in plan.events]
        if undone:
            await asyncio.wait(undone)
            for each in undone:
                each.result()
        await self._world.servers.settled()
        self._judge.all_is_well()
        self._load.slow_down()
        await asyncio.sleep(_QUIET + plan.slack)
        self._load.stop()
        await load
        await asyncio.sleep(_ARRIVED_WITHIN + plan.slack / 2)
        look.cancel()
        await self._judge.finish()
        await world.close()
        return Outcome(
            plan=plan,
            violations=[
                *self._judge.violations,
                *(Violation("error", 0.0, each) for each in self._trace.errors),
            ],
            acknowledged=len(self._judge.acknowledged),
            seconds=self._loop.time() - began,
            trace=self._trace.lines,
        )

    async def _do(self, event: Event, began: float) -> None:
        await asyncio.sleep(began + event.at - self._loop.time())
        self._note(str(event))
        is_by_keys = event.kind in ON_KEYS
        self._judge.look_for_losses()
        undo = FAULTS[event.kind](self._world, event)
        self._judge.look_for_losses(by_keys=is_by_keys, unseen=event.kind == "reload")
        if undo is not None:
            await asyncio.sleep(event.lasts)
            self._note(f"over: {event.kind}")
            undo()
            self._judge.look_for_losses(by_keys=is_by_keys)

    def _note(self, text: str) -> None:
        self._trace.lines.append(f"{self._loop.time() - 1000:8.3f} FAULT {text}")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            self._judge.look()


def shrunk(plan: Plan, *, tries: int = 60) -> Outcome:
    """Return a history with as few faults as still break a promise."""
    best = run(plan)
    at = 0
    while at < len(best.plan.events) and tries:
        tries -= 1
        fewer = replace(plan, events=[*best.plan.events[:at], *best.plan.events[at + 1 :]])
        outcome = run(fewer)
        if outcome.violations:
            best = outcome
        else:
            at += 1
    return best
