"""The promises, checked over what is seen from outside by someone who sees everything."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tests.simulation.servers import HEARD_WITHIN
from tests.simulation.world import Instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.load import Revoked
    from tests.simulation.loop import Process
    from tests.simulation.world import World

_REPAIRED_WITHIN, _COMPARED_WITHIN = 3.0, 8.0
_STARTED_WITHIN = 10.0
_SAMPLED, _LOOKS_PER_INVENTORY = 1, 4
_TOLERATED = 0.001
_ON_ITS_WAY, _LOOKED_AGAIN = 2.0, 0.1


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
    the primary, and until some time after that: nobody could write it back, or hold the others. It
    is a *gap* where its record alone has gone, which holds nobody, and is filled once: where the
    log has gone as well, who starts does not know it before that.

    Args:
        world: The world.
        fresh_within: Within how many seconds after the last fault every instance is to be fresh.
        slack: How many seconds more than usual repairs may take.

    Attributes:
        acknowledged: When each revocation was acknowledged, by the loop's time.
        violations: What was found.
    """

    def __init__(self, world: World, fresh_within: float, slack: float) -> None:
        self._world = world
        self._fresh_within = fresh_within
        self._slack = slack
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._revoked: dict[str, Revoked] = {}
        self._lost: set[str] = set()
        self._gaps: dict[str, float] = {}
        self._filled: set[str] = set()
        self._at_risk: dict[str, float] = {}
        self._unseen: dict[str, float] = {}
        self._not_told: set[tuple[str, int]] = set()
        self._nowhere_at: dict[str, float] = {}
        self._well_since: float | None = None
        self._looks = 0
        self._keys_went_at = -math.inf
        self._last_stale: dict[str, float] = {}
        self._reported: set[tuple[str, str]] = set()
        self._promised: dict[str, tuple[Revoked, Instance, Process]] = {}
        self.acknowledged: dict[str, float] = {}
        self.violations: list[Violation] = []

    def _broken(self, promise: str, key: str, what: str) -> None:
        if (promise, key) not in self._reported:
            self._reported.add((promise, key))
            self.violations.append(Violation(promise, self._world.loop.time() - 1000, what))

    # What is told to it

    def acknowledge(self, revoked: Revoked, instance: Instance) -> None:
        """Note that a revocation was acknowledged just now."""
        name = revoked.name
        self._revoked[name] = revoked
        self.acknowledged[name] = self._world.loop.time()
        clocks = instance.clock, self._world.servers.primary.clock
        if all(revoked.revocation.expires_at <= clock.wall() for clock in clocks):
            return  # by every clock that is asked the token has expired
        if not any(revoked.key in each.ever_held for each in self._world.servers.all):
            self._broken("G4", name, f"{name} acknowledged at {instance.name}, and not recorded")

    def promise(self, revoked: Revoked, instance: Instance) -> None:
        """Note that a revocation was made, and could not be written yet."""
        self._promised[revoked.name] = revoked, instance, instance.process

    def let_pass(self, revoked: Revoked, instance: Instance, asked_at: float) -> None:
        """Note that Redis, asked by `instance`, knows nothing against a token."""
        name = revoked.name
        confirms = self._world.servers.confirms
        age = asked_at - self.acknowledged[name]
        if age <= (instance.bound if confirms else 0.0) + _TOLERATED:
            return
        self.look_for_losses()
        is_gap = self._is_gap(name)
        is_excused = self._is_excused(name, instance)
        if not is_gap and not is_excused and not self._has_expired(revoked, instance):
            self._broken("ask", name, f"{instance.name} was told that {name} may pass")

    def signed_out(self, client: str, error: Exception) -> None:
        """Note that a client was signed out, who used each refresh token until it was answered."""
        self._broken("session", client, f"{client} was signed out: {error!r}")

    def all_is_well(self) -> None:
        """Note that no fault lasts any more."""
        self._well_since = self._world.loop.time()

    def latest(self, count: int) -> Sequence[Revoked]:
        """Return what was acknowledged last."""
        return [self._revoked[name] for name in islice(reversed(self.acknowledged), count)]

    # What it sees

    def _is_recorded(self, revoked: Revoked) -> bool:
        return revoked.is_in(self._world.servers.primary.data.get(revoked.key))

    def look_for_losses(self, *, by_keys: bool = False, unseen: bool = False) -> None:
        """Look which revocations the primary lacks, and who could write them back.

        Args:
            by_keys: Whether what is new among them has gone alone, record by record.
            unseen: Whether they have gone from a server that is the same as before, so that those
                who run learn of it with the next tick of who knows them.
        """
        if unseen:
            self._not_told = {(each.name, each.generation) for each in self._world.instances}
        if by_keys:
            self._keys_went_at = self._world.loop.time()
        if self._world.servers.primary.process.is_dead:
            return  # what it will have when it is back, nobody knows
        wanted = [each for each in self._revoked if each not in self._lost]
        lacked = [each for each in wanted if not self._is_recorded(self._revoked[each])]
        self._filled |= self._gaps.keys() & (set(wanted) - set(lacked))
        for name in lacked:
            self._look_at_loss(name, self._revoked[name], by_keys=by_keys)
        if unseen:
            kind = self._unseen if self._world.tells_of_reload else self._at_risk
            kind |= dict.fromkeys(lacked, self._world.loop.time())

    def _look_at_loss(self, name: str, revoked: Revoked, *, by_keys: bool) -> None:
        now = self._world.loop.time()
        # Written before its record went, and answered after that.
        was_on_its_way = 0 <= self.acknowledged[name] - self._keys_went_at < _ON_ITS_WAY
        if by_keys or was_on_its_way:
            self._gaps.setdefault(name, now)
            if name in self._filled:
                self._lost.add(name)  # once an hour each is written back, not more often
        instances = [each for each in self._world.instances if not each.process.is_dead]
        holders = [each for each in instances if each.knows(revoked)]
        if not holders:
            self._lost.add(name)
        elif not any(self._can_help(each, is_gap=name in self._gaps) for each in holders):
            self._at_risk[name] = now

    def _can_help(self, instance: Instance, *, is_gap: bool) -> bool:
        """Return whether an instance can write what is a gap, or else hold the others."""
        servers = self._world.servers
        primary = servers.primary
        way = self._world.network.way(instance.process, primary.process)
        is_reached = not way.is_cut and not way.loses_answers and servers.can_be_found
        return (
            instance.is_up and is_reached and (primary.accepts if is_gap else primary.can_be_held)
        )

    def _is_gap(self, name: str) -> bool:
        since = self._gaps.get(name)
        within = _COMPARED_WITHIN + self._slack
        return since is not None and self._world.loop.time() - since < within

    def _was_nowhere(self, name: str, staleness: float) -> bool:
        """Return whether, at a proof so long ago, neither record nor log had a revocation."""
        now = self._world.loop.time()
        if not self._is_gap(name):
            return False
        if not self._revoked[name].is_in_log(self._world.servers.primary.data):
            self._nowhere_at[name] = now
        return now - self._nowhere_at.get(name, -math.inf) <= staleness + _LOOKED_AGAIN

    def _misled(self) -> float:
        """Return by how many seconds a copy may be older than it claims to be.

        Sentinels and the nodes of a cluster name the former primary until they know the new one.
        """
        servers = self._world.servers
        bound = max(each.bound for each in self._world.instances)
        is_recent = self._world.loop.time() - servers.agreed_at < bound + HEARD_WITHIN
        return HEARD_WITHIN if servers.confirms and is_recent else 0.0

    def _is_excused(self, name: str, instance: Instance | None = None) -> bool:
        since = self._at_risk.get(name, -math.inf)
        if instance is not None and (instance.name, instance.generation) in self._not_told:
            since = max(since, self._unseen.get(name, -math.inf))
        within = _REPAIRED_WITHIN + self._slack
        return name in self._lost or self._world.loop.time() - since < within

    def _has_expired(self, revoked: Revoked, instance: Instance) -> bool:
        return instance.clock.wall() >= revoked.revocation.expires_at

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
        misled = self._misled()
        for name in list(seen.unknown):
            revoked = self._revoked[name]
            if instance.knows(revoked):
                del seen.unknown[name]
                seen.known.append(name)
            elif self._has_expired(revoked, instance):
                pass  # refused there, because it has expired
            elif is_fresh and staleness is not None and not self._is_excused(name, instance):
                age = now - self.acknowledged[name]
                allowed = min(instance.bound, staleness * 1.001) + misled + _TOLERATED
                if age > allowed and not self._was_nowhere(name, staleness):
                    who = f"{instance.name} does not know {name}, {age:.3f} s old"
                    promise = "G1" if age > instance.bound + misled + _TOLERATED else "G3"
                    self._broken(promise, instance.name, f"{who}, and claims {staleness:.3f}")
        self._look_again(instance, seen)

    def _look_again(self, instance: Instance, seen: _Seen) -> None:
        count = min(_SAMPLED, len(seen.known))
        for name in self._world.rng.sample(seen.known, count):
            if not instance.knows(self._revoked[name]):
                self._broken("G2", instance.name, f"{instance.name} has forgotten {name}")

    def _look_whether_fresh(self) -> None:
        if self._well_since is None:
            return
        for instance in self._world.instances:
            if not instance.is_fresh:
                self._last_stale[instance.name] = self._world.loop.time() - self._well_since

    # The end

    async def finish(self) -> None:
        """Look at the end: what is recorded, and what one who starts now knows."""
        world = self._world
        self.look()
        for name, seconds in self._last_stale.items():
            if seconds > self._fresh_within:
                self._broken("fresh", name, f"{name} was not fresh for {seconds:.2f} s")
        wanted = [each for name, each in self._revoked.items() if name not in self._lost]
        missing = [each.name for each in wanted if not self._is_recorded(each)]
        if missing:
            self._broken("G5", "redis", f"Redis lacks {len(missing)}, {missing[0]} among them")
        for name, (revoked, instance, process) in self._promised.items():
            is_there = instance.process is process and not process.is_dead
            if is_there and not self._is_recorded(revoked) and name not in self._filled:
                self._broken("G4", "promised", f"{name} was to be written by {instance.name}")
        for instance in world.instances:
            self._check_knows("end", instance, wanted)
        await self._start_late(wanted)

    def _check_knows(self, promise: str, instance: Instance, wanted: Sequence[Revoked]) -> None:
        lacking = [each.name for each in wanted if not instance.knows(each)]
        if lacking:
            who = f"{instance.name} lacks {len(lacking)}, {lacking[0]} among them"
            self._broken(promise, instance.name, who)

    async def _start_late(self, wanted: Sequence[Revoked]) -> None:
        late = Instance(self._world, "late", self._world.settings[0])
        self._world.instances.append(late)
        for _ in range(round((_STARTED_WITHIN + self._slack) / 0.05)):
            if late.is_fresh:
                self._check_knows("late", late, wanted)
                return
            await asyncio.sleep(0.05)
        self._broken("late", "late", "who starts last is never fresh")
