"""Continuity and denylist, driven through arbitrary histories against a simple model."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.continuity import Break, Continuity, Entry, Position, Push
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import Message, decode_payload, encode_payload
from revokebus.replication.applier import Applier
from revokebus.replication.repair import Repair
from revokebus.telemetry.conditions import Conditions
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine

VALUES = [f"token-{number}" for number in range(8)]
LIMIT = 5
EVERYTHING = 10**6
SAY_NOTHING = encode_payload([])


def _drive(work: Coroutine[object, None, None]) -> None:
    """Run what waits for nothing but its turn."""
    for _ in range(10_000):
        try:
            work.send(None)
        except StopIteration:
            return
    raise AssertionError("it waits for something")


@dataclass
class Data:
    """What a Redis holds."""

    epoch: int = 0
    log: list[Entry] = field(default_factory=list)
    records: dict[str, float] = field(default_factory=dict)


class History(RuleBasedStateMachine):
    """One instance, one Redis, and everything that can happen between them."""

    messages: Bundle[Message] = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.expiry_clock = ExpiryClock(self.clock)
        self.times_set_back = 0
        self.true_now = self.clock.wall()
        self.denylist = Denylist(self.expiry_clock, LIMIT)
        self.conditions = Conditions()
        self.repair = Repair(self.denylist)
        self.applier = Applier(self.denylist, self.repair, self.conditions)
        self.continuity = Continuity()
        self.redis, self.snapshot = Data(), Data()
        self.ids = 0
        self.revoked: set[str] = set()
        self.applied: dict[str, float] = {}  # of what the copy had room for

    # Redis

    @rule(
        target=messages,
        values=st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True),
        life=st.floats(1, 500),
        arrives=st.booleans(),
    )
    def somebody_revokes(self, values: list[str], life: float, arrives: bool) -> Message:  # noqa: FBT001
        """A write: records, a row, and a message that arrives at once, later, or never."""
        expires_at = self.true_now + life
        message = self._append(encode_payload([Revocation("jti", v, expires_at) for v in values]))
        for value in values:
            self.revoked.add(value)
            self.redis.records[value] = max(expires_at, self.redis.records.get(value, 0.0))
        if arrives:
            self.hear(message)
        return message

    def _append(self, payload: bytes) -> Message:
        previous = self.redis.log[-1].id if self.redis.log else (0, 0)
        entry = Entry((previous[0] + 1, 0), payload)  # after a loss, ids are given out again
        self.redis.log.append(entry)
        return Message(self._epoch(), previous, entry.id, payload)

    def _epoch(self) -> str:
        return f"{self.redis.epoch:032x}"

    @rule()
    def redis_is_flushed(self) -> None:
        """FLUSHALL, or a restart without data."""
        self.ids += 1
        self.redis = Data(epoch=self.ids)

    @rule()
    def redis_is_saved(self) -> None:
        """A snapshot, or the state of a replica."""
        self.snapshot = copy.deepcopy(self.redis)

    @rule()
    def redis_is_restored(self) -> None:
        """A restart from the snapshot, or a failover that loses the tail."""
        self.redis = copy.deepcopy(self.snapshot)

    @rule(keep=st.integers(0, 3))
    def the_log_is_trimmed(self, keep: int) -> None:
        """Retention, or an eviction of the log."""
        del self.redis.log[: max(0, len(self.redis.log) - keep)]

    # The way between

    @rule(message=messages)
    def hear(self, message: Message) -> None:
        """A message arrives: late, twice, out of order, or from another data set."""
        if self.continuity.hear(message) is not Push.TICK:
            _drive(self.applier.hear(message))
            self._note([message.payload])

    @rule()
    def a_tick_succeeds(self) -> None:
        """The log is read to its end: the copy is proven, or says that it is incomplete."""
        self.expiry_clock.now()
        if self.times_set_back != self.expiry_clock.times_set_back:
            self._list()
            self.times_set_back = self.expiry_clock.times_set_back
        self._read(EVERYTHING)
        live = {v for v, at in self.redis.records.items() if at > self._latest_now()}
        if self.denylist.complete:
            assert all(self.denylist.matches({"jti": value}) for value in live)

    @rule(entries=st.integers(1, 3))
    def a_tick_reads_a_part(self, entries: int) -> None:
        """The connection breaks before the end of the log."""
        self._read(entries)

    def _read(self, entries: int) -> None:
        position = self.continuity.position
        after = position.entry.id if position else (0, 0)
        page = [entry for entry in self.redis.log if entry.id >= after][:entries]
        judged = self.continuity.read(self._epoch(), page)
        if isinstance(judged, Break):
            self._list()
        else:
            _drive(self.applier.apply_entries(judged))
            self._note([entry.payload for entry in judged])

    def _list(self) -> None:
        if not self.redis.log:
            self._append(SAY_NOTHING)
        self.repair.begin()
        left_out = self.denylist.left_out
        payloads = [
            encode_payload([Revocation("jti", value, at)])
            for value, at in self.redis.records.items()
        ]
        _drive(self.applier.apply_all("record", payloads, listed=True))
        self._note(payloads)
        self.continuity.restart(Position(self._epoch(), self.redis.log[-1]))
        if self.denylist.left_out == left_out:
            self.denylist.completed()

    @rule()
    def there_is_room_again(self) -> None:
        """What was left out is listed again, once there is room."""
        if not self.denylist.complete and self.denylist.has_room:
            self._list()

    def _note(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            for each in decode_payload(payload):
                if self.denylist.holds(each):
                    value = str(each.value)
                    self.applied[value] = max(each.expires_at, self.applied.get(value, 0.0))

    # Time

    @rule(seconds=st.floats(0.1, 60))
    def time_passes(self, seconds: float) -> None:
        """Some time, by every clock."""
        self.clock.advance(seconds)
        self.true_now += seconds
        self.denylist.sweep(2)

    @rule(ahead=st.sampled_from([0.0, 0.0, 0.0, 3600.0, -3600.0]))
    def the_wall_clock_is_set(self, ahead: float) -> None:
        """Wrongly, or right; an instance must not forget for it."""
        self.clock.step(self.true_now + ahead - self.clock.wall())
        self.denylist.sweep(EVERYTHING)

    def _latest_now(self) -> float:
        # By a clock that is ahead, what expires soon is expired, and need not be taken.
        return max(self.true_now, self.clock.wall())

    # What must always be true

    @invariant()
    def what_was_applied_is_refused_until_it_expires(self) -> None:
        """G2: a revocation would be forgotten while the token still works."""
        for value, expires_at in self.applied.items():
            if expires_at > self.true_now:
                assert self.denylist.matches({"jti": value}), value

    @invariant()
    def nobody_else_is_refused(self) -> None:
        """A token that nobody revoked would be refused."""
        for value in VALUES:
            if self.denylist.matches({"jti": value}):
                assert value in self.revoked

    @invariant()
    def the_limit_is_kept(self) -> None:
        """The memory would fill up."""
        assert len(self.denylist) <= LIMIT


History.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestHistory = History.TestCase
