"""Which instances there are, as Redis knows it, and the questions that go to all of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.errors import WireError
from revokebus.protocol.heartbeat import (
    ENDED,
    HEARTBEAT_SECONDS,
    UNKNOWN,
    UNREADABLE,
    Facts,
    Heartbeat,
    Instance,
    decode_facts,
    decode_heartbeat,
)
from revokebus.protocol.wire import encode_inquiry
from revokebus.scripts import presence
from revokebus.store.settling import LONGEST_PAUSE, patience

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from revokebus.connection.channels import Inbox
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.names import Names
    from revokebus.protocol.wire import Inquiry
    from revokebus.settings.settings import Settings

_ENTRY = re.compile(rb"([0-9]{1,15}) ([0-9]{1,9}) (.*)", re.DOTALL)
_MISSED_HEARTBEATS = 3
_FAREWELL_SECONDS, _MOST_FACTS = 60, 2
_READ_AT_ONCE = 100
_LONGEST_LOOK, _MARGIN = 10.0, 0.1
ASKED_SECONDS = 3
"""For how many seconds instances send a heartbeat with each tick, once they are asked."""


@dataclass(frozen=True, slots=True)
class KnownInstances:
    """The instances that Redis knows at one moment.

    Attributes:
        live: Those that live, or may live, by name.
        ended: The names of those that have lately said that they end.
        age: For how many seconds Redis has had this data, and been the same process. Whoever was
            cut off from it before that may live, and is not known.
        confirmed_at: The moment, in elapsed seconds, at which Sentinels or the cluster last said
            that it is the primary; infinite where nobody has to.
    """

    live: Mapping[str, Instance]
    ended: frozenset[str]
    age: float
    confirmed_at: float


def heartbeat_life(settings: Settings) -> int:
    """Return for how many seconds an instance counts after its last heartbeat.

    One that is cut off may accept tokens for `max_staleness`; for that long it counts as alive.
    """
    return math.ceil(settings.max_staleness + _MISSED_HEARTBEATS * HEARTBEAT_SECONDS)


@dataclass(slots=True)
class _Roll:
    """What the heartbeats say, at a moment in milliseconds by Redis's clock.

    Attributes:
        beats: The heartbeats that count, and how many seconds ago each was sent.
        ended: Who has lately said that it ends.
        gone: Names and texts of those that count no more.
    """

    now: int
    beats: dict[str, tuple[Heartbeat, float]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    gone: list[bytes] = field(default_factory=list)

    def take(self, name: bytes, value: bytes) -> None:
        """Read one."""
        instance = name.decode("ascii", "replace")
        if instance == "since":
            return
        found = _ENTRY.fullmatch(value)
        silence = max(0, self.now - int(found[1])) if found else 0
        if found is None or silence > int(found[2]) * 1000:
            self.gone += [name, value]
        elif found[3] == ENDED:
            self.ended.add(instance)
        else:
            try:
                heartbeat = decode_heartbeat(found[3])
            except WireError:  # of another version: it lives, and may accept tokens
                heartbeat = UNREADABLE
            self.beats[instance] = heartbeat, silence / 1000


class Instances:
    """Heartbeats, and questions to whoever sends them.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        settings: For how long a heartbeat counts.
        requests: Sends them to the primary.
        names: What they are called.

    Attributes:
        instance: What this instance is called.
    """

    def __init__(self, settings: Settings, requests: Requests, names: Names) -> None:
        self._life = heartbeat_life(settings)
        self._patience = patience(settings)
        self._requests = requests
        self._names = names
        self._facts: dict[str, Facts] = {}
        self.instance = names.instance

    async def beat(self, heartbeat: bytes, facts: bytes) -> None:
        """Say that this instance lives, and how its copy is.

        Args:
            heartbeat: See `encode_heartbeat`.
            facts: What does not change, see `encode_facts`; written where Redis does not know it.
        """
        keys = [self._names.instances, self._names.facts]
        args: list[Argument] = [self.instance, self._life, heartbeat, facts]
        await self._requests.ask_patiently(
            lambda redis: presence.BEAT.run(redis, keys, args),
            deadline=self._patience,
            doubted_after=self._patience,
        )

    async def deregister(self) -> None:
        """Say that this instance accepts no token any more."""
        keys = [self._names.instances, self._names.facts]
        args: list[Argument] = [self.instance, _FAREWELL_SECONDS, ENDED]
        await self._requests.run(presence.FAREWELL, keys, args)

    async def list(self, *, asked: bool = False) -> KnownInstances:
        """Return every instance that was heard of lately, whether its beat can be read or not.

        Redis does no more at a time than some hundred of them need.

        Args:
            asked: Whether all are to send a heartbeat with each tick, for `ASKED_SECONDS`: before
                what they read counts for a proof.
        """
        now, age, is_there, is_steady = await self._roll(asked=asked)
        found: list[KnownInstances] = []
        cursor = b"0" if is_there else None
        while cursor is not None:
            cursor, pairs = await self._requests.call(
                "HSCAN", self._names.instances, cursor, "COUNT", _READ_AT_ONCE
            )
            found.append(await self._read(now, pairs, forgets=is_steady))
            if cursor == b"0":
                cursor = None
        _, age_then, *_ = await self._roll(asked=False)  # another process has walked other ways
        live = {name: each for some in found for name, each in some.live.items()}
        ended = frozenset[str]().union(*(some.ended for some in found))
        if len(self._facts) > _MOST_FACTS * len(live):  # of those that have ended
            self._facts = {each: self._facts[each] for each in live if each in self._facts}
        confirmed_at = self._requests.primary.confirmed_at
        return KnownInstances(live, ended, min(age, age_then), confirmed_at)

    async def some(self, instances: Sequence[str], *, asked: bool = False) -> KnownInstances:
        """Return those of some that were heard of lately; the rest as for `list`."""
        now, age, is_there, is_steady = await self._roll(asked=asked)
        live: dict[str, Instance] = {}
        ended = frozenset[str]()
        for at in range(0, len(instances) if is_there else 0, _READ_AT_ONCE):
            names = instances[at : at + _READ_AT_ONCE]
            values = await self._requests.call("HMGET", self._names.instances, *names)
            pairs = [
                each
                for name, value in zip(names, values, strict=True)
                if value is not None
                for each in (name.encode(), value)
            ]
            read = await self._read(now, pairs, forgets=is_steady)
            live |= read.live
            ended |= read.ended
        return KnownInstances(live, ended, age, self._requests.primary.confirmed_at)

    async def sample(self) -> Sequence[Instance]:
        """Return some instances, drawn by lot: of a small fleet all. Those that have ended go."""
        now, _, is_there, is_steady = await self._roll(asked=False)
        if not is_there:
            return []
        words = ("HRANDFIELD", self._names.instances, _READ_AT_ONCE, "WITHVALUES")
        pairs = await self._requests.call(*words)
        return [*(await self._read(now, pairs, forgets=is_steady)).live.values()]

    async def _roll(self, *, asked: bool) -> tuple[int, float, bool, bool]:
        """Return the time, the data's age, if heartbeats can be read, and if the clock is right."""
        keys = [self._names.meta, self._names.instances]
        args: list[Argument] = [ASKED_SECONDS if asked else 0]
        now, age, is_there, is_steady = await self._requests.run(presence.ROLL, keys, args)
        return now, age / 1000, bool(is_there), bool(is_steady)

    async def _read(self, now: int, pairs: Sequence[bytes], *, forgets: bool) -> KnownInstances:
        """Return what some heartbeats say; those that count no more go, if the clock is right."""
        roll = _Roll(now)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            roll.take(name, value)
        if roll.gone and forgets:
            keys = [self._names.instances, self._names.facts]
            await self._requests.run(presence.FORGET, keys, roll.gone)
        await self._learn([each for each in roll.beats if each not in self._facts])
        live = {
            each: Instance(each, heartbeat, self._facts.get(each, UNKNOWN), silence)
            for each, (heartbeat, silence) in roll.beats.items()
        }
        return KnownInstances(live, frozenset(roll.ended), 0.0, -math.inf)

    async def _learn(self, instances: Sequence[str]) -> None:
        """Ask for the facts of some; what cannot be read is asked for again the next time."""
        if instances:
            texts = await self._requests.call("HMGET", self._names.facts, *instances)
            for name, text in zip(instances, texts, strict=True):
                with contextlib.suppress(WireError):
                    self._facts[name] = decode_facts(text or b"")

    async def look(self) -> KnownInstances:
        """Return how each instance is now: after each had the time for a tick, and a heartbeat."""
        known = await self.list(asked=True)
        instances = len(known.live)
        pauses = (each.seconds_between_ticks(instances) for each in known.live.values())
        slowest = max((pause for pause in pauses if math.isfinite(pause)), default=0.0)
        until = min(LONGEST_PAUSE * slowest + _MARGIN, _LONGEST_LOOK)
        while until > 0:
            pause = min(until, ASKED_SECONDS / 2)
            await asyncio.sleep(pause)
            until -= pause
            known = await self.list(asked=until > 0)
        return known

    async def inquire(self, inquiry: Inquiry) -> None:
        """Ask every instance whether it has applied a row; see `answers`."""
        message = encode_inquiry(inquiry)
        self._requests.primary.doubt()  # one that was deposed reaches nobody who knows better
        await self._requests.call("PUBLISH", self._names.channel, message)

    async def answer(self, inquiry: Inquiry) -> None:
        """Say that this instance has."""
        channel = self._names.answers(inquiry.name)
        await self._requests.call("PUBLISH", channel, self.instance)

    def answers(self, inquiry: str) -> AbstractAsyncContextManager[Inbox]:
        """Subscribe to the answers to the question of that name."""
        return self._requests.answers(self._names.answers(inquiry))
