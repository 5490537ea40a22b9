"""The protocol with one of its mechanisms taken out, to see whether the simulation notices."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

from revokebus.bookmarks.follower import Follower
from revokebus.connection.primary import Primary
from revokebus.connection.script import Script
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.bookmark import PrimaryClock
from revokebus.protocol.continuity import Break, Continuity, Position, Push
from revokebus.protocol.unseen_writes import UnseenWrites
from revokebus.replication.applier import Applier
from revokebus.replication.log_reader import LogReader
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Comparison, Repair
from revokebus.scripts import bookmarks, data_set, exchanging, presence, questions, writing
from revokebus.store import settling, store
from revokebus.store.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from revokebus.bookmarks.follower import ReplicaPage
    from revokebus.protocol.continuity import Entry
    from revokebus.protocol.wire import Message


def _script(stack: ExitStack, name: str, old: str, new: str) -> None:
    modules = bookmarks, data_set, exchanging, presence, questions, writing
    (module,) = [each for each in modules if hasattr(each, name)]
    script: Script = getattr(module, name)
    assert old in script.text, f"{name} has no {old!r}"
    stack.enter_context(mock.patch.object(module, name, Script.of(script.text.replace(old, new))))


def _no_hold_by_redis(stack: ExitStack) -> None:
    """A server that is new is relied upon at once."""
    _script(
        stack, "READ", "local left, turns = at_most(hold_key, settling)", "local left, turns = 0"
    )


def _no_hold_by_holders(stack: ExitStack) -> None:
    """Who has something to write back does not keep the others from a proof."""

    async def hold(_self: Outbox, _store: Any) -> None:
        pass

    stack.enter_context(mock.patch.object(Outbox, "hold", hold))


def _id_is_enough(stack: ExitStack) -> None:
    """A row with the id that is remembered is taken for the row."""

    def read(self: Continuity, epoch: str, entries: Sequence[Entry]) -> Sequence[Entry] | Break:
        if self.position is None:
            return Break.NOT_LISTED
        if epoch != self.position.epoch:
            return Break.EPOCH_CHANGED
        if not entries or entries[0].id != self.position.entry.id:
            return Break.ROW_MISSING
        self.position = Position(epoch, entries[-1])
        return entries[1:]

    stack.enter_context(mock.patch.object(Continuity, "read", read))


def _first_row_may_be_missing(stack: ExitStack) -> None:
    """The log is taken to go on, whatever it begins with."""
    read = Continuity.read

    def lenient(self: Continuity, epoch: str, entries: Sequence[Entry]) -> Sequence[Entry] | Break:
        found = read(self, epoch, entries)
        if found is Break.ROW_MISSING and self.position is not None:
            return entries
        return found

    stack.enter_context(mock.patch.object(Continuity, "read", lenient))


def _epoch_does_not_matter(stack: ExitStack) -> None:
    """Another data set is taken for the one that is known."""
    read = Continuity.read

    def lenient(self: Continuity, _: str, entries: Sequence[Entry]) -> Sequence[Entry] | Break:
        return read(self, self.epoch, entries)

    stack.enter_context(mock.patch.object(Continuity, "read", lenient))


def _push_moves_the_position(stack: ExitStack) -> None:
    """What was heard counts as read."""
    hear = Continuity.hear

    def moving(self: Continuity, message: Message) -> Push:
        from revokebus.protocol.continuity import Entry  # noqa: PLC0415

        push = hear(self, message)
        if push is not Push.TICK and self.position is not None:
            self.position = Position(message.epoch, Entry(message.entry, message.payload))
        return push

    stack.enter_context(mock.patch.object(Continuity, "hear", moving))


def _own_writes_are_forgotten(stack: ExitStack) -> None:
    """Nobody looks whether the log shows what was acknowledged."""
    stack.enter_context(mock.patch.object(UnseenWrites, "remember", return_value=None))


def _nothing_is_compared(stack: ExitStack) -> None:
    """A listing adds, and what it lacks is not written back."""

    async def compare(self: Repair, **_: Any) -> None:
        self._listed = None

    stack.enter_context(mock.patch.object(Repair, "compare", compare))
    _records_are_not_compared(stack)


def _records_are_not_compared(stack: ExitStack) -> None:
    """Nobody looks without a reason whether the records are there."""

    async def go_on(*_: Any) -> None:
        pass

    stack.enter_context(mock.patch.object(Comparison, "go_on", go_on))


def _any_server_is_the_same(stack: ExitStack) -> None:
    """That another process answers is not noticed."""
    _script(stack, "READ", "server ~= id", "false")
    stack.enter_context(mock.patch.object(LogReader, "_note_server", return_value=None))


def _a_tick_only_reads(stack: ExitStack) -> None:
    """A tick is no write, so a former primary that knows that it is one answers."""
    _what_was_loaded_is_not_looked_at(stack)
    _script(stack, "READ", "type(persisted) == 'table' and persisted or nil", "nil")


def _what_was_loaded_is_not_looked_at(stack: ExitStack) -> None:
    """A process that holds older data than before is taken for the same."""
    for name in ("OPEN", "HAS", "EXCHANGE"):
        _script(stack, name, "redis.call('HGET', meta, 'loaded') == loaded", "true")


def _nobody_confirms_the_primary(stack: ExitStack) -> None:
    """Sentinels are not asked whether the server that answers is the primary still."""

    async def server(self: Primary, *, confirmed: bool = False) -> Any:  # noqa: ARG001 - Primary's
        if self._server is None:
            await self._asked()
        return self._server

    stack.enter_context(mock.patch.object(Primary, "server", server))
    stack.enter_context(
        mock.patch.object(
            Primary, "confirmed_at", property(lambda _: math.inf, lambda *_: None), create=True
        )
    )


def _an_election_does_not_matter(stack: ExitStack) -> None:
    """One that was deposed and is the primary again is taken for one that always was."""
    _script(stack, "READ", "if noted then hold(hold_key, settling) end", "")


def _a_few_nodes_are_enough(stack: ExitStack) -> None:
    """One Sentinel is enough to believe a server that accepts no writes."""
    ask = Primary._ask

    async def lenient(self: Primary) -> None:
        await ask(self)
        self.agreed_at = self.confirmed_at

    stack.enter_context(mock.patch.object(Primary, "_ask", lenient))


def _a_server_that_cannot_note_is_believed(stack: ExitStack) -> None:
    """One that accepts no writes may be another process than before."""
    _script(stack, "READ", "if not server or server ~= id or not loaded or", "if not loaded or")


def _a_write_makes_any_data_set(stack: ExitStack) -> None:
    """A write is made in whatever data set there is."""
    write = Writes.write

    def anywhere(self: Writes, revocations: Any, _: str, min_replicas: int = 0) -> Any:
        return write(self, revocations, "", min_replicas)

    stack.enter_context(mock.patch.object(Writes, "write", anywhere))


def _listed_before_the_position(stack: ExitStack) -> None:
    """Everything is listed first, and the position taken after it."""
    listing = LogReader._list

    async def late(self: LogReader, reason: Break) -> None:
        await listing(self, reason)
        self._continuity.restart(await self._log.position())

    stack.enter_context(mock.patch.object(LogReader, "_list", late))


def _failed_writes_are_dropped(stack: ExitStack) -> None:
    """What could not be written is not kept."""
    stack.enter_context(mock.patch.object(Outbox, "add", return_value=None))


def _a_step_of_the_clock_is_ignored(stack: ExitStack) -> None:
    """What was taken for expired by a wrong clock is not listed again."""
    stack.enter_context(mock.patch.object(LogReader, "_reason_to_list", return_value=None))


def _rows_are_not_applied(stack: ExitStack) -> None:
    """The log proves, and what it has is not put into the copy."""

    async def nothing(*_: Any) -> None:
        pass

    stack.enter_context(mock.patch.object(Applier, "apply_entries", nothing))


def _proven_when_answered(stack: ExitStack) -> None:
    """A proof counts from the moment of the answer, not of the question."""
    prove = LogReader.prove

    async def late(self: LogReader) -> float:
        await prove(self)
        return self._run.clock.elapsed()

    stack.enter_context(mock.patch.object(LogReader, "prove", late))


def _a_replica_is_believed_at_once(stack: ExitStack) -> None:
    """What a replica has is taken for what the primary has at that moment."""

    def moment(_self: Follower, page: ReplicaPage, now: float) -> float | None:
        return now if page.bookmark else None

    stack.enter_context(mock.patch.object(Follower, "_moment", moment))


def _a_clock_has_no_name(stack: ExitStack) -> None:
    """That the primary's clock has jumped is not seen in bookmarks."""
    elapsed = PrimaryClock._elapsed

    def any_clock(self: PrimaryClock, bookmark: Any, time: float) -> float | None:
        clock = self._last.clock if self._last else ""
        return elapsed(self, dataclasses.replace(bookmark, clock=clock), time)

    stack.enter_context(mock.patch.object(PrimaryClock, "_elapsed", any_clock))


def _a_bookmark_is_never_late(stack: ExitStack) -> None:
    """One is written although the primary's clock has jumped."""
    _script(stack, "MARK", "if now > tonumber(ARGV[7]) then", "if false then")


def _bookmarks_during_a_hold(stack: ExitStack) -> None:
    """One is written while others may know more."""
    _script(stack, "MARK", "if left > 0 or repairing == 1 then", "if false then")


def _readers_are_not_waited_for(stack: ExitStack) -> None:
    """A hold is no longer where instances read from replicas, which may be cut off."""
    for module in (settling, store):
        stack.enter_context(mock.patch.object(module, "replica_delay", return_value=0.0))


def _expired_by_the_wall(stack: ExitStack) -> None:
    """Entries are dropped by a clock that may have been set forward."""
    init = Denylist.__init__

    class Wall:
        times_set_back = 0

        def __init__(self, clock: Any) -> None:
            self.ahead = 0.0
            self.now = clock._clock.wall

    def by_wall(self: Denylist, clock: Any, *args: Any, **options: Any) -> None:
        by: Any = clock if isinstance(clock, Wall) else Wall(clock)
        init(self, by, *args, **options)

    stack.enter_context(mock.patch.object(Denylist, "__init__", by_wall))


MUTANTS: Mapping[str, Callable[[ExitStack], None]] = {
    function.__name__.strip("_"): function
    for function in (
        _no_hold_by_redis,
        _no_hold_by_holders,
        _id_is_enough,
        _first_row_may_be_missing,
        _epoch_does_not_matter,
        _push_moves_the_position,
        _own_writes_are_forgotten,
        _nothing_is_compared,
        _records_are_not_compared,
        _any_server_is_the_same,
        _a_tick_only_reads,
        _what_was_loaded_is_not_looked_at,
        _nobody_confirms_the_primary,
        _an_election_does_not_matter,
        _a_few_nodes_are_enough,
        _a_server_that_cannot_note_is_believed,
        _a_write_makes_any_data_set,
        _listed_before_the_position,
        _failed_writes_are_dropped,
        _a_step_of_the_clock_is_ignored,
        _rows_are_not_applied,
        _proven_when_answered,
        _expired_by_the_wall,
        _a_replica_is_believed_at_once,
        _a_clock_has_no_name,
        _a_bookmark_is_never_late,
        _bookmarks_during_a_hold,
        _readers_are_not_waited_for,
    )
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Take a mechanism out."""
    with ExitStack() as stack:
        MUTANTS[name](stack)
        yield
