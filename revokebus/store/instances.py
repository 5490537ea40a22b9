"""Which instances there are, as Redis knows it, and the questions that go to all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import WireError
from revokebus.protocol.heartbeat import ENDED, UNREADABLE, Instance, decode_heartbeat
from revokebus.protocol.wire import encode_inquiry
from revokebus.store import scripts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from revokebus.connection.channels import Inbox
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.names import Names
    from revokebus.protocol.wire import Inquiry
    from revokebus.settings.settings import Settings

_HEARTBEAT_TICKS = 20
_HEARTBEAT_LEAST = 10.0
_FAREWELL_SECONDS = 60


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
    return math.ceil(
        settings.max_staleness + max(_HEARTBEAT_LEAST, _HEARTBEAT_TICKS * settings.tick_interval)
    )


class Instances:
    """Heartbeats, and questions to whoever sends them.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        requests: Sends them to the primary.
        names: What they are called.

    Attributes:
        instance: What this instance is called.
    """

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests = requests
        self._names = names
        self.instance = names.instance

    async def deregister(self) -> None:
        """Say that this instance accepts no token any more."""
        keys = [self._names.instances]
        args: list[Argument] = [self.instance, _FAREWELL_SECONDS, ENDED]
        await self._requests.run(scripts.FAREWELL, keys, args)

    async def list(self) -> KnownInstances:
        """Return every instance that was heard of lately, whether its beat can be read or not."""
        keys = [self._names.meta, self._names.instances]
        age, found = await self._requests.run(scripts.PRESENT, keys, [])
        live: dict[str, Instance] = {}
        ended = set()
        for name, silence, text in found:
            instance = name.decode("ascii", "replace")
            if text == ENDED:
                ended.add(instance)
                continue
            try:
                heartbeat = decode_heartbeat(text)
            except WireError:  # of another version: it lives, and may accept tokens
                heartbeat = UNREADABLE
            live[instance] = Instance(instance, heartbeat, silence / 1000)
        confirmed_at = self._requests.primary.confirmed_at
        return KnownInstances(live, frozenset(ended), age / 1000, confirmed_at)

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
