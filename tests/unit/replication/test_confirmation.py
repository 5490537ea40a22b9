"""Who is waited for, and until when."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

from revokebus.protocol.heartbeat import UNREADABLE, Facts, Instance
from revokebus.replication.confirmation import ConfirmationRequest
from revokebus.replication.run import Run
from revokebus.store.instances import KnownInstances
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.protocol.wire import Inquiry
    from revokebus.store.instances import Instances
    from revokebus.testing import ManualClock

BOUND = 30.0
FACTS = Facts("1", "host", 1, BOUND, accepts_stale=False, interval=0.5, longest_life=60.0,
              issuer="", checked_types=[], claims=[], leeway=0.0)  # fmt: skip


class Nobody:
    """No answer."""

    async def __aenter__(self) -> Nobody:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> Nobody:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.Event().wait()
        raise StopAsyncIteration


class Silent:
    """An instance that answers nothing, and whose last heartbeat is some seconds old."""

    instance = "self"

    def __init__(self, clock: ManualClock, silence: float, *, step: float) -> None:
        self._clock = clock
        self._sent_at = clock.elapsed() - silence
        self._step = step
        self.asked = 0

    def answers(self, _: str) -> Nobody:
        return Nobody()

    async def inquire(self, _: Inquiry) -> None:
        pass

    async def list(self) -> KnownInstances:
        return self._known()

    async def some(self, instances: Sequence[str], *, asked: bool) -> KnownInstances:
        assert [*instances] == ["other"]
        assert asked
        self.asked += 1
        self._clock.advance(self._step)
        return self._known()

    def _known(self) -> KnownInstances:
        silence = self._clock.elapsed() - self._sent_at
        other = Instance("other", UNREADABLE, FACTS, silence)
        return KnownInstances({"other": other}, frozenset(), 1e6, float("inf"))


async def outcome(
    clock: ManualClock, silent: Silent, timeout: float, refused_at: float = -math.inf
) -> tuple[str, float]:
    """Return what became of it, and after how many seconds that was known."""
    began = clock.elapsed()
    run = Run(clock, Counters(), refused_at=refused_at)
    request = ConfirmationRequest(
        cast("Instances", silent), run, BOUND, "e" * 32, (1, 0), clock.elapsed()
    )
    (told,) = (await request.ask(timeout)).confirmations
    return told.outcome, clock.elapsed() - began


async def test_one_that_was_asked_is_waited_for_as_long_as_it_may_accept(
    clock: ManualClock,
) -> None:
    """A receipt would say that no instance accepts the token, while one still does."""
    silent = Silent(clock, 1.0, step=1.0)
    told, seconds = await outcome(clock, silent, 60.0)
    assert told == "stale"
    assert BOUND <= seconds <= BOUND + 3


async def test_one_that_has_long_been_silent_is_not_waited_for(clock: ManualClock) -> None:
    """Each confirmation after a crash would take the whole bound."""
    silent = Silent(clock, 11.0 + 1.0 + BOUND + 0.5, step=1.0)
    assert (await outcome(clock, silent, 60.0))[0] == "stale"
    assert silent.asked == 0


async def test_one_that_was_not_asked_all_the_time_is_asked_anew(clock: ManualClock) -> None:
    """What it has proven in between would not show in a heartbeat."""
    silent = Silent(clock, 1.0, step=9.0)  # longer than heartbeats are wanted
    told, seconds = await outcome(clock, silent, 200.0)
    assert told == "stale"
    assert seconds >= 11.0 + BOUND  # by the next heartbeat that was due


async def test_one_that_could_send_no_heartbeat_may_accept_all_the_same(clock: ManualClock) -> None:
    """While Redis accepts no writes copies are proven, and the receipt would call them stale."""
    silent = Silent(clock, 11.0 + 1.0 + BOUND + 0.5, step=1.0)
    told, seconds = await outcome(clock, silent, 60.0, refused_at=clock.elapsed() - 1.0)
    assert told == "stale"
    assert seconds >= BOUND
