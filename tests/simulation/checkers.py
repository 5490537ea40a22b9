"""The promises, checked over what is seen from outside by someone who sees everything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tests.simulation.world import Instance

if TYPE_CHECKING:
    from tests.simulation.loop import Process
    from tests.simulation.server import Server
    from tests.simulation.world import World

REPAIRED_WITHIN = 3.0
_STARTED_WITHIN = 10.0
_SAMPLED, _LOOKS_PER_INVENTORY = 3, 4
_TOLERATED = 0.001


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken.

    Attributes:
        promise: Which.
        at: When.
        what: By whom, and over which token.
    """

    promise: str
    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.promise}: {self.what}"


class _Seen:
    """What one start of an instance was seen to know."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self.unknown: dict[str, None] = {}
        self.taken = 0


class Judge:
    """Watches a world.

    A revocation is *lost* once no live instance holds it and the primary does not: nobody can be
    asked to know it. It is *at risk* while the primary lacks it and nobody who holds it can reach
    the primary, and until some time after that: nobody could write it back.

    Args:
        world: The world.
        bound: ``max_staleness``.
        fresh_within: Within how many seconds after the last fault every instance is to be fresh.

    Attributes:
        acknowledged: When each revocation was acknowledged, by the loop's time.
        expires_at: When its token expires, in seconds since the epoch.
        violations: What was found.
    """

    def __init__(self, world: World, bound: float, fresh_within: float) -> None:
        self._world = world
        self._bound = bound
        self._fresh_within = fresh_within
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._lost: set[str] = set()
        self._at_risk: dict[str, float] = {}
        self._well_since: float | None = None
        self._looks = 0
        self._last_stale: dict[str, float] = {}
        self._reported: set[tuple[str, str]] = set()
        self.acknowledged: dict[str, float] = {}
        self.expires_at: dict[str, float] = {}
        self._promised: dict[str, tuple[Instance, Process]] = {}
        self.violations: list[Violation] = []

    def _broken(self, promise: str, key: str, what: str) -> None:
        if (promise, key) not in self._reported:
            self._reported.add((promise, key))
            self.violations.append(Violation(promise, self._world.loop.time() - 1000, what))

    def acknowledge(self, jti: str, expires_at: float, instance: Instance) -> None:
        """Note that a revocation was acknowledged just now."""
        self.expires_at[jti] = expires_at
        self.acknowledged[jti] = self._world.loop.time()
        if not any(_key(jti) in each.ever_held for each in self._world.servers.all):
            self._broken("G4", jti, f"{jti} acknowledged at {instance.name}, and not recorded")

    def promise(self, jti: str, instance: Instance) -> None:
        """Note that a revocation was made, and could not be written yet."""
        self._promised[jti] = instance, instance.process

    def all_is_well(self) -> None:
        """Note that no fault lasts any more."""
        self._well_since = self._world.loop.time()

    def _is_recorded(self, jti: str) -> bool:
        return _has(self._world.servers.primary, jti)

    def look_for_losses(self) -> None:
        """Look which revocations the primary lacks, and who could write them back."""
        now = self._world.loop.time()
        primary = self._world.servers.primary
        if primary.process.is_dead:
            return  # what it will have when it is back, nobody knows
        instances = [each for each in self._world.instances if not each.process.is_dead]
        for jti in self.acknowledged:
            if jti in self._lost or self._is_recorded(jti):
                continue
            holders = [each for each in instances if each.knows(jti)]
            if not holders:
                self._lost.add(jti)
            elif not any(self._can_write(each) for each in holders):
                self._at_risk[jti] = now

    def _can_write(self, instance: Instance) -> bool:
        primary = self._world.servers.primary
        way = self._world.network.way(instance.process, primary.process)
        return instance.is_up and not way.is_cut and not way.loses_answers and primary.accepts

    def _is_excused(self, jti: str) -> bool:
        now = self._world.loop.time()
        since = self._at_risk.get(jti)
        return jti in self._lost or (since is not None and now - since < REPAIRED_WITHIN)

    def look(self) -> None:
        """Take one answer of each instance about each token that matters."""
        self._looks += 1
        if self._looks % _LOOKS_PER_INVENTORY == 0:
            self.look_for_losses()
        for instance in self._world.instances:
            if instance.is_up:
                self._look_at(instance)
        self._look_whether_fresh()

    def _look_at(self, instance: Instance) -> None:
        now = self._world.loop.time()
        seen = self._seen.setdefault((instance.name, instance.generation), _Seen())
        seen.unknown |= dict.fromkeys(islice(self.acknowledged, seen.taken, None))
        seen.taken = len(self.acknowledged)
        staleness = instance.staleness()
        is_fresh = instance.is_fresh
        for jti in list(seen.unknown):
            if instance.knows(jti):
                del seen.unknown[jti]
                seen.known.append(jti)
            elif instance.clock.wall() >= self.expires_at[jti]:
                pass  # refused there, because it has expired
            elif is_fresh and staleness is not None and not self._is_excused(jti):
                age = now - self.acknowledged[jti]
                who = f"{instance.name} does not know {jti}, {age:.3f} s old"
                if age > self._bound + _TOLERATED:
                    self._broken("G1", instance.name, who)
                if age > staleness * 1.001 + _TOLERATED:
                    self._broken("G3", instance.name, f"{who}, and claims {staleness:.3f}")
        self._look_again(instance, seen)

    def _look_again(self, instance: Instance, seen: _Seen) -> None:
        count = min(_SAMPLED, len(seen.known))
        for jti in self._world.rng.sample(seen.known, count):
            if not instance.knows(jti):
                self._broken("G2", instance.name, f"{instance.name} has forgotten {jti}")

    def _look_whether_fresh(self) -> None:
        if self._well_since is None:
            return
        for instance in self._world.instances:
            if not instance.is_fresh:
                self._last_stale[instance.name] = self._world.loop.time() - self._well_since

    async def finish(self) -> None:
        """Look at the end: what is recorded, and what one who starts now knows."""
        world = self._world
        self.look()
        for name, seconds in self._last_stale.items():
            if seconds > self._fresh_within:
                self._broken("fresh", name, f"{name} was not fresh for {seconds:.2f} s")
        wanted = [jti for jti in self.acknowledged if jti not in self._lost]
        missing = [jti for jti in wanted if not self._is_recorded(jti)]
        if missing:
            self._broken("G5", "redis", f"Redis lacks {len(missing)}, {missing[0]} among them")
        for jti, (instance, process) in self._promised.items():
            if instance.process is process and not process.is_dead and not self._is_recorded(jti):
                self._broken("G4", "promised", f"{jti} was to be written by {instance.name}")
        for instance in world.instances:
            self._check_knows("end", instance, wanted)
        await self._start_late(wanted)

    def _check_knows(self, promise: str, instance: Instance, wanted: list[str]) -> None:
        lacking = [jti for jti in wanted if not instance.knows(jti)]
        if lacking:
            who = f"{instance.name} lacks {len(lacking)}, {lacking[0]} among them"
            self._broken(promise, instance.name, who)

    async def _start_late(self, wanted: list[str]) -> None:
        late = Instance(self._world, "late", self._world.settings[0])
        self._world.instances.append(late)
        for _ in range(round(_STARTED_WITHIN / 0.05)):
            if late.is_fresh:
                self._check_knows("late", late, wanted)
                return
            await asyncio.sleep(0.05)
        self._broken("late", "late", "who starts last is never fresh")


def _has(server: Server, jti: str) -> bool:
    return isinstance(server.data.get(_key(jti)), bytes)


def _key(jti: str) -> bytes:
    return b"{revokebus}:r:jti:" + jti.encode()
