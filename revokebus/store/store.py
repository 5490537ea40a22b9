"""Redis: the records, the log and the channel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError

from revokebus.connection.pipeline import LostConnectionError
from revokebus.errors import (
    OtherDataSetError,
    RefusedError,
    StoreError,
    UnsettledError,
    WireError,
)
from revokebus.protocol.bookmark import decode_bookmark
from revokebus.protocol.continuity import Entry, Position
from revokebus.protocol.revocation import Revocation, is_refused, session_among
from revokebus.protocol.wire import (
    DATA_VERSION,
    decode_entry_id,
    decode_payload,
    encode_entry_id,
)
from revokebus.scripts import data_set, questions
from revokebus.store.group_commit import GroupCommit
from revokebus.store.instances import heartbeat_life
from revokebus.store.listing import PAGE_ENTRIES, covered_by_log, payload_of
from revokebus.store.sessions import Sessions
from revokebus.store.settling import (
    TURN_MILLISECONDS,
    patience,
    replica_delay,
    settling_milliseconds,
    tick_deadline,
    unsettled_error,
)
from revokebus.store.writes import Writes, data_set_arguments, longest

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Sequence,
    )

    from revokebus.clock import Clock
    from revokebus.connection.client import Client
    from revokebus.connection.discovery import Configuration
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.connection.subscription import Subscription
    from revokebus.protocol.bookmark import Bookmark
    from revokebus.protocol.names import Names
    from revokebus.protocol.revocation import Target
    from revokebus.protocol.unseen_writes import UnseenWrites
    from revokebus.settings.settings import Settings
    from revokebus.store.heartbeats import Told

_ASKED_TOGETHER, _ASKED_BYTES = 500, 512 * 1024
_WAYS_OF_A_LISTING, _MARGIN = 8, 3
_TIMED = 5
_LONGEST_WAY = 4.0
_KEPT = 1.1
_LOOKS_EVERY = 1.0
_LONG_ROW = 512

PAGE_BYTES = 128 * 1024
"""About how many bytes a page of the log has at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the log, and the data set that it belongs to.

    Attributes:
        epoch: The data set's name; empty where there is none.
        entries: The entries.
        more: Whether there may be more of them.
        unsettled: Why the log proves nothing at this moment, although it may be continuous: Redis
            may have lost what others are about to write back.
        time: What time it is at Redis, in seconds since the epoch.
        server: Which process has answered; empty where that is not known.
        longest_life: For how many seconds a token may live at any instance.
        instances: How many there are, some that have ended included.
        wants_heartbeat: Whether this instance must send a heartbeat before anything is proven:
            Redis does not know it, or somebody has asked for them.
        confirmed_at: When Sentinels or the cluster were asked last, in elapsed seconds, who is the
            primary, and named the one that has answered: one that was deposed answers, too.
        refusal: Why Redis accepts no writes, in its words, although it answers; empty if it does.
            What would have been written, a heartbeat for example, was not.
        bookmark: The last one; None where there is none, or it was not asked for.
    """

    epoch: str
    entries: Sequence[Entry]
    more: bool
    unsettled: UnsettledError | None = None
    time: float = 0.0
    server: str = ""
    longest_life: float = 0.0
    instances: int = 1
    wants_heartbeat: bool = False
    confirmed_at: float = math.inf
    refusal: str = ""
    bookmark: Bookmark | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    targets: Sequence[Target]
    since: float
    epoch: str

    @property
    def session(self) -> str | None:
        return session_among(self.targets)


class Store:
    """The project's side of Redis, for one event loop.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        settings: The deadlines, and how long the log keeps.
        clock: Tells the time.
        requests: Sends them to the primary.
        names: The names of keys and of the channel.
        unseen: Remembers what was written here until the log shows it.
        reading: Subscribes.

    Attributes:
        sessions: The records of the sessions that refresh.
        writes: Writes revocations.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        requests: Requests,
        names: Names,
        unseen: UnseenWrites,
        reading: Requests,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._names = names
        self._requests = requests
        self._reading = reading
        self._primary = requests.primary
        self.sessions = Sessions(settings, requests, names)
        self._round_trip = 0.0
        self._steady: tuple[float, float] | None = None
        self._instances = 1
        self._life = b""
        self._wants_all = True
        self._written_under: Configuration | None = None
        self._read_under: Configuration | None = None
        self._looked_at = -math.inf
        self._took = deque([0.0] * _TIMED, maxlen=_TIMED)
        self._settling = settling_milliseconds(settings)
        # A little longer, so that there is an entry by which whoever starts can tell.
        retention = settings.log_retention or _KEPT * covered_by_log(settings)
        self.writes = Writes(settings, clock, requests, names, unseen, retention)
        self._questions: GroupCommit[_Asked, bool | StoreError] = GroupCommit(
            self._refuse_together,
            size=lambda asked: sum(map(longest, asked.targets)),
            together=lambda one, other: one.epoch == other.epoch,
            most_rows=_ASKED_TOGETHER,
            most_bytes=_ASKED_BYTES,
        )

    async def position(self) -> Position:
        """Return the end of the log; make a data set where there is none."""
        keys, args = self._names.data_set, data_set_arguments(self._settings, self._names)
        epoch, last = await self._requests.run(data_set.OPEN, keys, args)
        return Position(epoch.decode(), entry_of(*last))

    async def is_as_read(self) -> bool:
        """Return whether the primary is the one whose log was read last, as far as is known.

        It is looked up now and then.

        Raises:
            StoreError: It cannot be found, and none is known.
        """
        async with self._requests.deadline():
            await self._primary.server()
        return self._primary.configuration == self._read_under

    async def hold(self, seconds: float) -> None:
        """Let nobody take his copy for proven for that long: there is something to write back."""
        far = min(_WAYS_OF_A_LISTING * self._round_trip, _LONGEST_WAY)
        # Others that read from replicas may notice as late as this one.
        milliseconds = math.ceil(1000 * (seconds + far + replica_delay(self._settings)))
        keys = [self._names.hold, self._names.meta]
        await self._requests.run(data_set.HOLD, keys, [milliseconds])

    async def read(self, after: Position, told: Told | None = None) -> Page:
        """Return the log from `after`, that entry included.

        Args:
            after: The entry.
            told: A heartbeat to send by the way.
        """
        names = self._names
        keys = [names.meta, names.log, names.hold, names.repair, names.instances, names.facts]
        args: list[Argument] = [encode_entry_id(after.entry.id), PAGE_ENTRIES]
        # One that is far away notices later, and begins to list later.
        far = math.ceil(1000 * min(_WAYS_OF_A_LISTING * self._round_trip, _LONGEST_WAY))
        settling = settling_milliseconds(self._settings, self._instances) + far
        args += [settling, TURN_MILLISECONDS, names.instance]
        args += [self._settings.longest_life, named_row(after.entry.payload), PAGE_BYTES]
        # With a heartbeat all is told: some of it, as how many there are, is not compared.
        wants_all = told is not None or self._wants_all or self._settings.reads_from_replica
        said: list[Argument] = []
        if told is not None:
            said = [heartbeat_life(self._settings), told.heartbeat, told.facts]
        before = self._read_under = self._primary.configuration
        known_epoch = "" if wants_all else after.epoch
        try:
            answer, asked, confirmed_at = await self._tick(keys, args, known_epoch, said)
        except RefusedError:
            self._written_under = None  # whatever has happened could not be noted there
            raise
        if isinstance(answer, bytes) or not answer[-1]:
            # Where it changed meanwhile, it is not known under which one the answer was given.
            is_same = before == self._primary.configuration
            self._written_under = before if is_same else None
        if isinstance(answer, bytes):
            return self._as_before(after, answer, asked, confirmed_at)
        (epoch, version, server, bookmark), rows, left, repairing, *answer = answer
        time, life, instances, more, wants_heartbeat, refusal = answer
        self._life, self._instances = life, instances
        self._wants_all = bool(wants_heartbeat)
        if epoch and version != b"%d" % DATA_VERSION:
            raise StoreError(f"the data has format {version!r}, this is format {DATA_VERSION}")
        entries = [entry_of(*row) if row[1] else after.entry for row in rows]
        return Page(
            epoch=epoch.decode() if epoch else "",
            entries=entries,
            more=bool(more),
            unsettled=unsettled_error(left, repairing),
            time=self._note_time(time),
            server=server.decode(),
            longest_life=float(life),
            instances=instances,
            wants_heartbeat=bool(wants_heartbeat),
            confirmed_at=self._counts_from(confirmed_at, refusal),
            refusal=refusal.decode(),
            bookmark=decode_bookmark(bookmark),
        )

    def _may_be_refused(self) -> str:
        """Return whether an answer counts although Redis accepts no writes: "1", or nothing.

        Not after another election: what was written at another primary meanwhile may be lost.
        """
        configuration = self._primary.configuration
        is_same = configuration is not None and configuration == self._written_under
        return "1" if is_same else ""

    def _counts_from(self, confirmed_at: float, refusal: bytes) -> float:
        """Return the moment for which an answer counts, if it was not asked later.

        Raises:
            RefusedError: The server accepts no writes, as one that was deposed may do, and not
                enough of the others have named it lately.
        """
        if not refusal:
            return confirmed_at
        agreed_at = self._primary.agreed_at
        too_old = agreed_at < self._clock.elapsed() - self._settings.max_staleness
        if too_old or not self._may_be_refused():
            raise RefusedError(f"Redis: {refusal.decode()}".rstrip("."))
        return min(confirmed_at, agreed_at)

    def _as_before(self, known: Position, time: bytes, server: str, confirmed_at: float) -> Page:
        """Return the page of a log, and of all else, that is as it was."""
        return Page(
            epoch=known.epoch,
            entries=[known.entry],
            more=False,
            time=self._note_time(time),
            server=server,
            longest_life=float(self._life),
            instances=self._instances,
            confirmed_at=confirmed_at,
        )

    def _note_time(self, told: bytes) -> float:
        seconds, microseconds = told.split()
        time = int(seconds) + int(microseconds) / 1e6
        self._steady = time, self._clock.elapsed()
        return time

    async def _tick(
        self, keys: list[str], args: list[Argument], known_epoch: str, said: list[Argument]
    ) -> tuple[Any, str, float]:
        """Ask; whatever it takes, as long as the answer is of use.

        Returns:
            The answer, the process that was known to be asked, and when the primary was confirmed
            that has given it.
        """
        async with self._requests.deadline():
            # Apart, because who is far away asks for it as long as for all the rest.
            await self._primary.server(confirmed=True)
        answer, asked = await self._requests.ask_patiently(
            lambda redis: self._ask_once(redis, keys, args, known_epoch, said),
            deadline=patience(self._settings),
            doubted_after=max(tick_deadline(self._settings), _MARGIN * self._round_trip),
        )
        confirmed_at = self._primary.confirmed_at  # the next look-up may confirm another
        return answer, asked, confirmed_at

    async def _ask_once(
        self,
        redis: Client,
        keys: list[str],
        args: list[Argument],
        known_epoch: str,
        said: list[Argument],
    ) -> tuple[Any, str]:
        """Ask, and say which process is asked, as far as it is known of this connection."""
        number, server = await redis.session()
        if said:
            server = ""  # now and then: a proxy may have connected this one to another process
        args = [*args, server, self._time_there(), DATA_VERSION, self._life, known_epoch]
        args += [self._may_be_refused(), self._primary.elected, *said]
        sent = self._clock.elapsed()
        answer = await questions.READ.run(redis, keys, args)
        # An answer or two that are late do not mean that Redis is far away.
        self._took.append(self._clock.elapsed() - sent)
        self._round_trip = median(self._took)
        named = server if isinstance(answer, bytes) else answer[0][2]
        return self._on_same(redis, number, answer, named), server

    @staticmethod
    def _on_same(redis: Client, number: int, answer: Any, server: bytes | str) -> Any:
        """Return an answer; which process gave it is known of one connection, not of another."""
        name = server if isinstance(server, str) else server.decode()
        if not redis.note_server(number, name):
            raise LostConnectionError("the connection was lost while it was asked")
        return answer

    def _time_there(self) -> str:
        """Return what time it must be at Redis, if its clock is steady; empty if not known."""
        if self._steady is None:
            return ""
        time, at = self._steady
        return f"{time + self._clock.elapsed() - at:.3f}"

    async def refuses(self, targets: Sequence[Target], since: float, epoch: str) -> bool:
        """Return whether anything that is recorded for `targets` refuses a token.

        A record that cannot be read does.

        Args:
            targets: What the token could be refused by.
            since: The moment that cut-offs are compared with.
            epoch: The data set that the copy belongs to; empty where it belongs to none.

        Raises:
            OtherDataSetError: Nothing does, and Redis has another data set, or none.
            UnsettledError: Nothing does, and others may be about to write back what would.
            StoreError: Nothing does, and the server may have been deposed.
        """
        found = await self._questions.ask(_Asked(targets, since, epoch), len(targets))
        if isinstance(found, StoreError):
            raise found
        return found

    async def _refuse_together(self, asked: Sequence[_Asked]) -> list[bool | StoreError]:
        names = self._names
        keys: list[bytes | str] = [names.meta, names.hold, names.repair]
        keys += [names.record(target) for each in asked for target in each.targets]
        args: list[Argument] = [self._settling, TURN_MILLISECONDS, asked[0].epoch]
        await self._confirm()
        sent = self._clock.elapsed()
        # Whether the same process has loaded something else is too dear for each question.
        looks = sent >= self._looked_at + _LOOKS_EVERY

        async def ask(redis: Client) -> Any:
            number, server = await redis.session()
            more = [server, "1" if looks else "", self._may_be_refused(), self._time_there()]
            answer = await questions.HAS.run(redis, keys, [*args, *more, self._primary.elected])
            return self._on_same(redis, number, answer, server if answer == 0 else answer[4])

        answer = await self._requests.ask(ask)
        self._looked_at = sent if looks else self._looked_at
        none: list[Any] = [[None] * len(keys), b"same", 0, 0, b"", b""]
        found, data_set, left, repairing, _, refusal = answer or none
        error: StoreError | None = unsettled_error(left, repairing)
        confirmed_at = self._counts_from(self._primary.confirmed_at, refusal)
        if data_set == b"other":
            error = OtherDataSetError()
        elif confirmed_at < sent - self._settings.max_staleness:
            error = StoreError(
                "neither Sentinels nor the cluster have confirmed the primary lately"
            )
        payloads = iter(found)
        refused = [_is_refused(list(islice(payloads, len(each.targets))), each) for each in asked]
        return [True if is_refused else error or False for is_refused in refused]

    async def _confirm(self) -> None:
        """Have the primary confirmed, if that was too long ago: this process may have slept."""
        if self._primary.confirmed_at < self._clock.elapsed() - self._settings.max_staleness:
            async with self._requests.deadline():
                await self._primary.server(confirmed=True)

    async def settled_epoch(self) -> str:
        """Return which data set there is, if it has all that live instances know.

        Raises:
            StoreError: There is none.
            UnsettledError: Others may be about to write back what Redis has lost.
        """
        named = await self._requests.call("HGET", self._names.meta, "epoch")
        if named is None:
            namespace = self._settings.namespace
            raise StoreError(f"nothing has the namespace {namespace} (REVOKEBUS_NAMESPACE)")
        epoch: str = named.decode()
        try:
            await self.refuses([], 0.0, epoch)
        except UnsettledError as error:
            if not error.seconds:
                raise
            await asyncio.sleep(error.seconds)  # nobody was there to see how the time passed
            await self.refuses([], 0.0, epoch)
        return epoch

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return those of `revocations` that have no record, or one that ends before they do."""
        if not revocations:
            return []
        keys = [self._names.record(each.target) for each in revocations]
        payloads: list[bytes | None] = await self._requests.call("MGET", *keys)
        return [
            each
            for each, payload in zip(revocations, payloads, strict=True)
            if not ((held := _read_record(payload or b"", each.target)) and held.covers(each))
        ]

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """Yield what says whether it is, and still is, this instance's turn to repair.

        No other instance has it meanwhile, as long as it is asked often enough, see
        `TURN_MILLISECONDS`.
        """
        async with self._requests.deadline():
            server = await self._primary.server()
            lock = server.redis.lock(self._names.repair, timeout=TURN_MILLISECONDS / 1000)
            granted = await lock.acquire(blocking=False)

        async def is_ours() -> bool:
            if not granted:
                return False
            async with self._requests.deadline():
                try:
                    return bool(await lock.reacquire())
                except LockError:
                    return False

        try:
            yield is_ours
        finally:
            if granted:
                # It may have run out; another one's turn is not to be ended.
                with contextlib.suppress(LockError, StoreError):
                    async with self._requests.deadline():
                        await lock.release()

    @property
    def reads_elsewhere(self) -> bool:
        """Whether the copy is read from another server than the primary."""
        return self._reading is not self._requests

    def subscribe(
        self, *, at_primary: bool = False
    ) -> contextlib.AbstractAsyncContextManager[Subscription]:
        """Subscribe to the channel where the copy is read from, on a connection of its own.

        It ends with an error when another server is to be read from.

        Args:
            at_primary: Whether to subscribe at the primary wherever the copy is read from.
        """
        where = self._requests if at_primary else self._reading
        return where.subscribe(self._names.channel)

    async def close(self) -> None:
        """End what is on its way for several callers."""
        await self.writes.close()
        await self._questions.close()

    def doubt_primary(self) -> None:
        """Ask who is primary before the next request."""
        self._primary.doubt()


def named_row(payload: bytes) -> bytes:
    """Return what tells a script that the reader has a row, so that it is not sent again."""
    if len(payload) <= _LONG_ROW:
        return payload
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest().encode()


def entry_of(row_id: bytes, fields: Sequence[bytes]) -> Entry:
    """Return an entry of the log, as Redis sends it."""
    return Entry(decode_entry_id(row_id), payload_of(fields))


def _read_record(payload: bytes, target: Target) -> Revocation | None:
    try:
        (held,) = decode_payload(payload)
    except (WireError, ValueError):
        return None
    return held if held.target == target else None


def _is_refused(payloads: Sequence[bytes | None], asked: _Asked) -> bool:
    for payload, target in zip(payloads, asked.targets, strict=True):
        if payload is not None:
            held = _read_record(payload, target)
            if held is None or is_refused(asked.since, held.cut_off_of(asked.session)):
                return True
    return False
