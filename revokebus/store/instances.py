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
    import contextlib
    from collections.abc import Callable, Mapping

    from revokebus.protocol.names import Names
    from revokebus.protocol.wire import Inquiry
    from revokebus.settings.settings import Settings
    from revokebus.store.requests import PrimaryClient
    from revokebus.store.scripts import Argument
    from revokebus.store.subscription import Subscription

    Subscribe = Callable[[str], contextlib.AbstractAsyncContextManager[Subscription]]

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


class Instances:
    """Heartbeats, and questions to whoever sends them.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        client: Where they are.
        keys: What they are called.
        settings: How often heartbeats come, and for how long an instance may decide without one.
        subscribe: Subscribes to a channel.

    Attributes:
        heartbeat_life: For how many seconds an instance counts after its last heartbeat.
        instance: What this instance is called.
    """

    def __init__(
        self, client: PrimaryClient, keys: Names, settings: Settings, subscribe: Subscribe
    ) -> None:
        self._client = client
        self._keys = keys
        self._subscribe = subscribe
        self.instance = keys.instance
        # Whoever is cut off may accept tokens for `max_staleness`; so long it counts as alive.
        self.heartbeat_life = math.ceil(
            settings.max_staleness
            + max(_HEARTBEAT_LEAST, _HEARTBEAT_TICKS * settings.tick_interval)
        )

    async def deregister(self) -> None:
        """Say that this instance accepts no token any more."""
        keys = [self._keys.instances]
        args: list[Argument] = [self.instance, _FAREWELL_SECONDS, ENDED]
        await self._client.ask(lambda redis: scripts.FAREWELL.run(redis, keys, args))

    async def call(self) -> KnownInstances:
        """Return every instance that was heard of lately, whether its beat can be read or not."""
        keys = [self._keys.meta, self._keys.instances]
        age, found = await self._client.ask(lambda redis: scripts.PRESENT.run(redis, keys, []))
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
        confirmed_at = self._client.primary.confirmed_at
        return KnownInstances(live, frozenset(ended), age / 1000, confirmed_at)

    async def inquire(self, inquiry: Inquiry) -> None:
        """Ask every instance whether it has applied a row; see `answers`."""
        message = encode_inquiry(inquiry)
        self._client.primary.doubt()  # one that was deposed reaches nobody who knows better
        await self._client.ask(lambda redis: redis.publish(self._keys.channel, message))

    async def answer(self, inquiry: Inquiry) -> None:
        """Say that this instance has."""
        channel = self._keys.answers(inquiry.name)
        await self._client.ask(lambda redis: redis.publish(channel, self.instance))

    def answers(self, inquiry: str) -> contextlib.AbstractAsyncContextManager[Subscription]:
        """Subscribe to the answers to the question of that name."""
        return self._subscribe(self._keys.answers(inquiry))
