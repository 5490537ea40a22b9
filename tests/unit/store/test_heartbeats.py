"""When an instance sends heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from revokebus.errors import StoreError
from revokebus.protocol.continuity import Entry, Position
from revokebus.protocol.heartbeat import UNKNOWN, UNREADABLE
from revokebus.store.heartbeats import Heartbeats

if TYPE_CHECKING:
    from revokebus.testing import ManualClock

POSITION = Position("e", Entry((1, 0), b"2 []"))


class Register:
    """Takes heartbeats, or fails, as told."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, bytes]] = []
        self.error: StoreError | None = None

    async def beat(self, heartbeat: bytes, facts: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append((heartbeat, facts))


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def heartbeats(clock: ManualClock, register: Register) -> Heartbeats:
    return Heartbeats(
        clock=clock, register=register, facts=UNKNOWN, tell=lambda _position: UNREADABLE
    )


def test_they_are_ten_seconds_apart(clock: ManualClock, heartbeats: Heartbeats) -> None:
    """Redis would write one with each tick, to disk and to replicas, or call a live one dead."""
    assert heartbeats.due(POSITION) is not None
    assert heartbeats.due(POSITION) is not None  # until one was written
    heartbeats.sent(clock.elapsed())
    clock.advance(9.9)
    assert heartbeats.due(POSITION) is None
    clock.advance(1.1)
    assert heartbeats.due(POSITION) is not None


async def test_one_that_was_asked_for_counts(
    clock: ManualClock, heartbeats: Heartbeats, register: Register
) -> None:
    """A second one would follow at once."""
    await heartbeats.beat(POSITION)
    assert len(register.taken) == 1
    assert heartbeats.due(POSITION) is None
    clock.advance(11)
    register.error = StoreError("full")
    with pytest.raises(StoreError):
        await heartbeats.beat(POSITION)
    assert heartbeats.due(POSITION) is not None
