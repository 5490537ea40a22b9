"""The reader of the log and the copy, driven through arbitrary histories against a simple model."""

from __future__ import annotations

import copy
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.errors import StoreError
from revokebus.protocol.continuity import Break, Continuity, Entry, Position, Push
from revokebus.protocol.revocation import Revocation, Target
from revokebus.protocol.unseen_writes import UnseenWrites
from revokebus.protocol.wire import Message, decode_payload, encode_payload
from revokebus.replication.applier import Applier
from revokebus.replication.feed import Feed
from revokebus.replication.log_reader import LogReader
from revokebus.replication.repair import Repair
from revokebus.replication.run import Run
from revokebus.store.exchanges import Exchanges
from revokebus.store.heartbeats import Told
from revokebus.store.store import Page
from revokebus.telemetry.counters import Counters
from revokebus.testing import ManualClock
from tests.support import make_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence

    from revokebus.replication.applier import PayloadSource
    from revokebus.store.heartbeats import Heartbeats

Answer = TypeVar("Answer")

VALUES = [f"token-{number}" for number in range(8)]
OWN = ["own-0", "own-1"]
LIMIT = 5
EVERYTHING = 10**6
SAY_NOTHING = encode_payload([])


class BrokenPromiseError(AssertionError):
    """A promise of the guarantees does not hold."""


def promise(*, holds: bool, what: object) -> None:
    """Check a promise."""
    if not holds:
        raise BrokenPromiseError(what)


def _drive(work: Coroutine[object, None, Answer]) -> Answer:
    """Run what waits for nothing but its turn."""
    for _ in range(10_000):
        try:
            work.send(None)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
    raise AssertionError("it waits for something")


@dataclass
class Data:
    """What a Redis holds."""

    epoch: int = 0
    last: int = 0  # of the ids that were given out; a log that is trimmed remembers it
    log: list[Entry] = field(default_factory=list)
    records: dict[str, float] = field(default_factory=dict)


class RecordingApplier(Applier):
    """Remembers what it has applied, as far as it got."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.applied: list[bytes] = []

    async def apply_all(
        self, source: PayloadSource, payloads: Iterable[bytes | None], *, listed: bool = False
    ) -> None:
        for payload in payloads:
            await super().apply_all(source, [payload], listed=listed)
            self.applied.append(payload or b"")


class Model:
    """A Redis as the reader of the log sees it; the connection may break after some entries.

    Attributes:
        data: What it holds.
        breaks_after: After how many entries the connection breaks; None where it does not.
        page: How many entries a page has at most.
        may_evict: Whether it says that it evicts records.
        now: What time it is there, in seconds since the epoch.
    """

    def __init__(self, now: float) -> None:
        self.data = Data()
        self.now = now
        self.breaks_after: int | None = None
        self.page = 3
        self.may_evict = False

    @property
    def epoch(self) -> str:
        return f"{self.data.epoch:032x}"

    def append(self, payload: bytes) -> Message:
        previous = (self.data.last, 0)
        self.data.last += 1  # after a loss, ids are given out again
        entry = Entry((self.data.last, 0), payload)
        self.data.log.append(entry)
        return Message(self.epoch, previous, entry.id, payload)

    # What the reader calls

    async def once(self) -> None:
        pass

    async def position(self) -> Position:
        if not self.data.log:
            self.append(SAY_NOTHING)
        return Position(self.epoch, self.data.log[-1])

    async def read(self, after: Position, told: Told | None = None) -> Page:
        assert told is not None
        rest = [entry for entry in self.data.log if entry.id >= after.entry.id]
        size = self.page
        if self.breaks_after is not None:
            size = min(size, self.breaks_after + 1)  # the first one is known already
            self.breaks_after -= size - 1
            if size == 1 and len(rest) > 1:
                raise StoreError("the connection has broken")
        return Page(self.epoch, rest[:size], more=len(rest) > size, time=self.now)

    def doubt_primary(self) -> None:
        pass

    async def is_as_read(self) -> bool:
        return True

    def due(self, position: Position) -> Told | None:
        return Told(b"", b"") if position.epoch else None

    def sent(self, at: float) -> None:
        pass

    def renew(self) -> None:
        pass

    async def beat(self, position: Position) -> None:
        assert position.epoch

    @asynccontextmanager
    async def turn(self, *, may_wait: bool) -> AsyncIterator[bool]:
        assert may_wait in (True, False)
        yield False

    async def records(self, since: Position) -> AsyncGenerator[list[bytes | None]]:  # noqa: ARG002 - Records'
        for value, expires_at in list(self.data.records.items()):
            yield [encode_payload([Revocation("jti", value, expires_at)])]

    async def history(self, until: Position) -> AsyncGenerator[list[bytes]]:
        yield [entry.payload for entry in self.data.log if entry.id <= until.entry.id]


async def _hold_nobody() -> None:
    pass


class History(RuleBasedStateMachine):
    """One instance, one Redis, and everything that can happen between them."""

    messages: Bundle[Message] = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.expiry_clock = ExpiryClock(self.clock)
        self.true_now = self.clock.wall()
        self.denylist = Denylist(self.expiry_clock, LIMIT)
        run = Run(self.clock, Counters(), continuity=self.make_continuity())
        self.continuity = run.continuity
        self.repair = repair = Repair(self.denylist, Exchanges(self.clock), run.counters)
        self.unseen_writes = UnseenWrites()
        self.applier = RecordingApplier(self.denylist, repair, run.conditions, Feed(self.clock))
        self.redis = Model(self.true_now)
        self.reader = self.make_reader(
            run,
            self.redis,
            self.redis,
            audit=self.redis,
            denylist=self.denylist,
            applier=self.applier,
            repair=repair,
            unseen_writes=self.unseen_writes,
            fleet=make_fleet(self.clock),
            heartbeats=cast("Heartbeats", self.redis),
            hold=_hold_nobody,
            owes=lambda: False,
        )
        self.snapshot = Data()
        self.ids = 0
        self.revoked: set[str] = set()
        self.own: dict[str, tuple[float, float]] = {}
        self.applied: dict[str, float] = {}  # of what the copy had room for

    make_reader = LogReader
    make_continuity = Continuity

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
        message = self.redis.append(
            encode_payload([Revocation("jti", v, expires_at) for v in values])
        )
        for value in values:
            self.revoked.add(value)
            self.redis.data.records[value] = max(
                expires_at, self.redis.data.records.get(value, 0.0)
            )
        if arrives:
            self.hear(message)
        return message

    @rule(lost=st.integers(1, 4), heard=st.sampled_from(VALUES[4:]), life=st.floats(60, 500))
    def some_messages_are_lost(self, lost: int, heard: str, life: float) -> None:
        """The push is not complete, and does not say so by itself."""
        for value in VALUES[:lost]:
            self.somebody_revokes(values=[value], life=life, arrives=False)
        self.somebody_revokes(values=[heard], life=life, arrives=True)

    @rule(value=st.sampled_from(OWN), life=st.integers(100, 500))
    def its_last_write_is_lost(self, value: str, life: int) -> None:
        """Redis falls back to a moment before the write, for example by a failover."""
        self.redis_is_saved()
        self.it_revokes(value, life)
        self.time_passes(0.1)
        self.redis_is_restored()

    @rule(value=st.sampled_from(OWN), life=st.integers(100, 500))
    def it_revokes(self, value: str, life: int) -> None:
        """A write of this instance, which Redis has acknowledged."""
        expires_at = float(math.ceil(self.true_now + life))
        each = Revocation("jti", value, expires_at)
        self.denylist.add(each, always=True)
        message = self.redis.append(encode_payload([each]))
        entry = Entry(message.entry, message.payload)
        self.unseen_writes.remember(entry, self.clock.elapsed(), [each])
        records = self.redis.data.records
        records[value] = max(expires_at, records.get(value, 0.0))
        self.own[value] = self.clock.elapsed(), max(expires_at, self.own.get(value, (0, 0.0))[1])
        self.revoked.add(value)

    @rule()
    def redis_is_flushed(self) -> None:
        """FLUSHALL, or a restart without data."""
        self.ids += 1
        self.redis.data = Data(epoch=self.ids)

    @rule()
    def redis_is_saved(self) -> None:
        """A snapshot, or the state of a replica."""
        self.snapshot = copy.deepcopy(self.redis.data)

    @rule()
    def redis_is_restored(self) -> None:
        """A restart from the snapshot, or a failover that loses the tail."""
        self.redis.data = copy.deepcopy(self.snapshot)

    @rule(keep=st.integers(0, 3))
    def the_log_is_trimmed(self, keep: int) -> None:
        """Retention, or an eviction of the log."""
        del self.redis.data.log[: max(0, len(self.redis.data.log) - keep)]

    # The way between

    @rule(message=messages)
    def hear(self, message: Message) -> None:
        """A message arrives: late, twice, out of order, or from another data set."""
        if self.continuity.hear(message) is not Push.TICK:
            _drive(self.applier.hear(message))
            self._note([message.payload])

    @rule(page=st.integers(2, 4), breaks_after=st.none() | st.none() | st.integers(0, 3))
    def a_tick(self, page: int, breaks_after: int | None) -> None:
        """The log is read to its end, or the connection breaks before that.

        Once it was read, the copy is proven: it has all that is recorded, or says that it has not.
        """
        self.redis.page, self.redis.breaks_after = page, breaks_after
        try:
            proven_at = _drive(self.reader.prove())
        except StoreError:
            assert breaks_after is not None
            return
        finally:
            self._note_applied()
        assert proven_at == self.clock.elapsed()
        live = {v for v, at in self.redis.data.records.items() if at > self._latest_now()}
        if self.denylist.complete:
            lacking = {value for value in live if not self.denylist.matches({"jti": value})}
            promise(holds=not lacking, what=lacking)
        self._check_own_writes()

    def _check_own_writes(self) -> None:
        """Whatever was acknowledged here, and Redis has lost, is to be written back (G4, G5)."""
        for value, (at, expires_at) in self.own.items():
            if at >= self.clock.elapsed() or expires_at <= self._latest_now():
                continue
            is_recorded = self.redis.data.records.get(value, 0.0) >= expires_at
            target = Target("", "jti", "string", value)
            is_put_down = target in self.repair._lost or target in self.repair._gaps
            promise(holds=is_recorded or is_put_down, what=value)

    @rule()
    def there_is_room_again(self) -> None:
        """What was left out is listed again, once there is room."""
        self.redis.breaks_after = None
        if (reason := self.reader.use_of_listing()) is not None:
            _drive(self.reader.list_again(reason))
        self._note_applied()

    def _note_applied(self) -> None:
        self._note(self.applier.applied)
        self.applier.applied.clear()

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
        self.redis.now = self.true_now
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
                promise(holds=self.denylist.matches({"jti": value}), what=value)

    @invariant()
    def nobody_else_is_refused(self) -> None:
        """A token that nobody revoked would be refused."""
        for value in VALUES + OWN:
            if self.denylist.matches({"jti": value}):
                assert value in self.revoked

    @invariant()
    def the_limit_is_kept(self) -> None:
        """The memory would fill up."""
        assert len(self.denylist) <= LIMIT + len(OWN)


History.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestHistory = History.TestCase


# Readers and judges of the log that a history must find out


class ProvesWithoutReading(LogReader):
    """Calls the copy proven, and reads nothing."""

    async def prove(self) -> float:
        return self._run.clock.elapsed()


class ReadsOnePage(LogReader):
    """Takes the first page for the whole log."""

    async def _read(self) -> Page | None:
        page = await super()._read()
        return page and replace(page, more=False)


class NeverListsAgain(LogReader):
    """Goes on from the end of the log where it has lost its place."""

    async def _list(self, reason: Break) -> None:
        if reason is Break.NOT_LISTED:
            await super()._list(reason)
        else:
            self._continuity.restart(await self._log.position())


class ForgetsOwnWrites(LogReader):
    """Does not miss what was acknowledged here."""

    async def _look_for_lost_writes(self, sent: float) -> None:
        list(self._unseen_writes.missed(sent))


class GoesByIds(Continuity):
    """Takes another entry of the same id for the one that it knows."""

    def read(self, epoch: str, entries: Sequence[Entry]) -> Sequence[Entry] | Break:
        if self.position and entries and entries[0].id == self.position.entry.id:
            entries = [self.position.entry, *entries[1:]]
        return super().read(epoch, entries)


class BelievesPushes(Continuity):
    """Takes what was pushed for what was read."""

    def hear(self, message: Message) -> Push:
        push = super().hear(message)
        if push is not Push.TICK and self.position and message.entry > self.position.entry.id:
            self.position = Position(message.epoch, Entry(message.entry, message.payload))
        return push


@pytest.mark.parametrize(
    "mutant",
    [
        ProvesWithoutReading,
        ReadsOnePage,
        NeverListsAgain,
        ForgetsOwnWrites,
        GoesByIds,
        BelievesPushes,
    ],
)
def test_a_history_finds_what_proves_too_much(mutant: type[Any]) -> None:
    """The model would be satisfied with any reader, and be no evidence for G1."""

    class Mutated(History):
        make_reader = mutant if issubclass(mutant, LogReader) else LogReader
        make_continuity = mutant if issubclass(mutant, Continuity) else Continuity

    quick = settings(
        # What is drawn depends on the constants of the modules that are loaded, so on other tests.
        max_examples=10_000,
        stateful_step_count=40,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
    )
    with pytest.raises(BrokenPromiseError):
        run_state_machine_as_test(Mutated, settings=quick)
