from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revokebus.protocol.continuity import Break, Continuity, Entry, Position, Push
from revokebus.protocol.wire import Message

EPOCH = "e" * 32


def entry(number: int, payload: bytes = b"") -> Entry:
    return Entry((number, 0), payload or b"1 %d" % number)


def message(number: int, previous: int, *, epoch: str = EPOCH, payload: bytes = b"") -> Message:
    return Message(epoch, (previous, 0), (number, 0), payload or b"1 %d" % number)


@pytest.fixture
def at_one() -> Continuity:
    """A copy that includes the first row of the log."""
    continuity = Continuity()
    continuity.restart(Position(EPOCH, entry(1)))
    return continuity


def test_messages_in_order_are_applied_without_a_tick(at_one: Continuity) -> None:
    """Every revocation would cost every instance a request."""
    assert at_one.hear(message(2, 1)) is Push.APPLY
    assert at_one.hear(message(3, 2)) is Push.APPLY


def test_a_missing_message_calls_for_a_tick(at_one: Continuity) -> None:
    """A lost message would wait for the next regular tick, or for ever."""
    assert at_one.hear(message(3, 2)) is Push.APPLY_AND_TICK
    assert at_one.hear(message(4, 3)) is Push.APPLY


def test_duplicates_and_old_messages_are_harmless(at_one: Continuity) -> None:
    """A repeated message would cause requests to Redis without end."""
    at_one.hear(message(2, 1))
    assert at_one.hear(message(2, 1)) is Push.APPLY
    assert at_one.hear(message(1, 0)) is Push.APPLY


def test_another_data_set_is_not_applied_but_looked_at(at_one: Continuity) -> None:
    """Another database's revocations would be applied here, or a FLUSHALL be noticed late."""
    assert at_one.hear(message(2, 1, epoch="f" * 32)) is Push.TICK
    assert Continuity().hear(message(1, 0)) is Push.TICK


def test_an_invented_row_far_ahead_does_not_hide_a_gap(at_one: Continuity) -> None:
    """One forged message would switch the detection of lost ones off."""
    assert at_one.hear(message(10**15, 1)) is Push.APPLY
    assert at_one.hear(message(3, 2)) is Push.APPLY_AND_TICK
    assert at_one.hear(message(5, 4)) is Push.APPLY_AND_TICK


def test_a_page_must_begin_with_the_remembered_row(at_one: Continuity) -> None:
    """A promoted replica that reuses ids would be taken for the old primary."""
    assert at_one.read(EPOCH, [entry(1, b"1 other"), entry(2)]) is Break.ROW_MISSING
    assert at_one.read(EPOCH, [entry(2)]) is Break.ROW_MISSING
    assert at_one.read(EPOCH, []) is Break.ROW_MISSING
    assert at_one.read("f" * 32, [entry(1)]) is Break.EPOCH_CHANGED
    assert Continuity().read(EPOCH, []) is Break.NOT_LISTED


def test_a_page_moves_the_position(at_one: Continuity) -> None:
    """The same rows would be read at every tick."""
    assert at_one.read(EPOCH, [entry(1), entry(2), entry(3)]) == [entry(2), entry(3)]
    assert at_one.position == Position(EPOCH, entry(3))
    assert at_one.read(EPOCH, [entry(3)]) == []


def test_a_row_is_applied_whatever_was_pushed(at_one: Continuity) -> None:
    """A forged message with a coming row's id would hide that row."""
    at_one.hear(message(2, 1, payload=b"1 forged"))
    assert at_one.read(EPOCH, [entry(1), entry(2)]) == [entry(2)]


def test_a_push_that_overtook_the_page_is_no_gap(at_one: Continuity) -> None:
    """Under load every tick would cause another."""
    at_one.hear(message(2, 1))
    at_one.hear(message(3, 2))
    at_one.read(EPOCH, [entry(1), entry(2)])
    assert at_one.hear(message(4, 3)) is Push.APPLY


@dataclass
class Server:
    """A Redis as the copy sees it: a log that may lose its tail or everything."""

    epoch: int = 0
    log: list[Entry] = field(default_factory=list)
    written: int = 0

    def write(self) -> Message:
        previous = self.log[-1].id[0] if self.log else 0
        self.written += 1
        added = Entry((previous + 1, 0), b"1 %d" % self.written)  # ids are handed out again
        self.log.append(added)
        return Message(self.name, (previous, 0), added.id, added.payload)

    def lose_tail(self) -> None:
        del self.log[len(self.log) // 2 :]

    def lose_log(self) -> None:
        self.log.clear()

    def flush(self) -> None:
        self.log.clear()
        self.epoch += 1

    @property
    def name(self) -> str:
        return f"{self.epoch:032x}"

    def position(self) -> Position:
        if not self.log:  # it is given a row, as the real one is
            self.write()
        return Position(self.name, self.log[-1])

    def page(self, after: Position, size: int) -> list[Entry]:
        return [entry for entry in self.log if entry.id >= after.entry.id][:size]


class Copy:
    """A replica without I/O: what it was told, and what it applied."""

    def __init__(self, server: Server) -> None:
        self.server, self.continuity = server, Continuity()
        self.applied: set[bytes] = set()
        self.held: list[Message] = []

    def write(self) -> None:
        self.hear(self.server.write())

    def write_lost(self) -> None:
        self.held.append(self.server.write())

    def late(self) -> None:
        if self.held:
            self.hear(self.held.pop())

    def hear(self, message: Message) -> None:
        if self.continuity.hear(message) is not Push.TICK:
            self.applied.add(message.payload)

    def tick(self) -> None:
        self.read(10**6)

    def read(self, size: int = 2) -> None:
        after = self.continuity.position
        page = self.server.page(after, size) if after else []
        entries = self.continuity.read(self.server.name, page)
        if isinstance(entries, Break):
            self.continuity.restart(self.server.position())
            entries = self.server.log
        self.applied |= {entry.payload for entry in entries}
        if len(page) < size:  # the end of the log: a proof
            assert {entry.payload for entry in self.server.log} <= self.applied


@given(
    st.lists(
        st.sampled_from(
            ["write", "write_lost", "late", "read", "tick", "lose_tail", "lose_log", "flush"]
        ),
        max_size=60,
    )
)
@settings(max_examples=300)
def test_a_proof_is_never_given_while_a_row_is_missing(history: list[str]) -> None:
    """The copy would be called complete although a revocation of the log is not in it."""
    server = Server()
    copy = Copy(server)
    for action in history:
        (getattr(copy, action, None) or getattr(server, action))()


@given(
    st.lists(st.sampled_from(["write", "write_lost", "late", "read", "tick", "flush"]), max_size=60)
)
@settings(max_examples=300)
def test_what_is_said_to_be_covered_is(history: list[str]) -> None:
    """An instance would confirm a revocation that it has missed."""
    server = Server()
    copy = Copy(server)
    for action in history:
        (getattr(copy, action, None) or getattr(server, action))()
        for number, entry in enumerate(server.log, start=1):
            if copy.continuity.covers(server.name, entry.id):
                assert {entry.payload for entry in server.log[:number]} <= copy.applied


def test_after_a_break_nothing_is_covered_until_all_is_listed(at_one: Continuity) -> None:
    """After a failover that gives an id out again, an instance would confirm what it has not."""
    assert at_one.covers(EPOCH, (1, 0))
    assert isinstance(at_one.read(EPOCH, [entry(2)]), Break)
    assert not at_one.covers(EPOCH, (1, 0))
    at_one.restart(Position(EPOCH, entry(2)))
    assert at_one.covers(EPOCH, (2, 0))


def test_what_was_heard_in_order_is_covered_at_once(at_one: Continuity) -> None:
    """Each confirmation would wait for a tick."""
    at_one.hear(message(2, 1))
    at_one.hear(message(3, 2))
    assert at_one.covers(EPOCH, (3, 0))
    assert not at_one.covers(EPOCH, (4, 0))
    assert not at_one.covers("f" * 32, (3, 0))
    at_one.hear(message(5, 4))
    assert not at_one.covers(EPOCH, (5, 0))
    assert at_one.covers(EPOCH, (1, 0))
    at_one.read(EPOCH, [entry(1), entry(2), entry(3), entry(4), entry(5)])
    assert at_one.covers(EPOCH, (5, 0))
    at_one.hear(message(6, 5))
    assert at_one.covers(EPOCH, (6, 0))
