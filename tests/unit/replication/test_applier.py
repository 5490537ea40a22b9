from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.continuity import Entry
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import Message, encode_payload
from revokebus.replication.applier import Applier, _portions
from revokebus.replication.feed import Feed
from revokebus.replication.repair import Repair
from revokebus.store.exchanges import Exchanges
from revokebus.telemetry.conditions import Conditions
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    from revokebus.testing import ManualClock

EPOCH = "0123456789abcdef" * 2


@pytest.fixture
def denylist(clock: ManualClock) -> Denylist:
    return Denylist(ExpiryClock(clock))


@pytest.fixture
def applier(clock: ManualClock, denylist: Denylist) -> Applier:
    return Applier(
        denylist, Repair(denylist, Exchanges(clock), Counters()), Conditions(), Feed(clock)
    )


def pushed(value: str, expires_at: float) -> Message:
    return Message(EPOCH, (1, 0), (2, 0), encode_payload([Revocation("jti", value, expires_at)]))


async def test_what_was_heard_while_the_clock_was_ahead_is_read_again(
    clock: ManualClock, denylist: Denylist, applier: Applier
) -> None:
    """A token would be accepted because its revocation was taken for expired when it was pushed."""
    message = pushed("a", clock.wall() // 1 + 60)
    clock.step(1000)
    denylist.clock.now()
    denylist.clock = ExpiryClock(clock)  # as of an instance that started then
    await applier.hear(message)
    assert not denylist.matches({"jti": "a"})
    clock.step(-1000)
    await applier.apply_entries([Entry(message.entry, message.payload)])
    assert denylist.matches({"jti": "a"})


async def test_another_row_of_the_same_id_is_read(
    clock: ManualClock, denylist: Denylist, applier: Applier
) -> None:
    """After a failover that lost rows, ids are given out again: the new ones would be missed."""
    message = pushed("a", clock.wall() // 1 + 60)
    await applier.hear(message)
    other = pushed("b", clock.wall() // 1 + 60)
    await applier.apply_entries([Entry(other.entry, other.payload)])
    assert denylist.matches({"jti": "b"})


def test_portions_are_small_in_bytes_too() -> None:
    """Nothing else would run for a third of a second for each page of large batches."""
    large, small = b"x" * 20_000, b"x"
    some = [large] * 5 + [small] * 500 + [None]
    portions = list(_portions(some))
    assert [each for portion in portions for each in portion] == some
    assert max(len(portion) for portion in portions) <= 200
    assert max(sum(len(each or b"") for each in portion) for portion in portions) <= 52_000
