"""Keeps the copy fresh by Redis: a subscriber for speed, a ticker for proof.

The subscriber applies what is pushed. The ticker has the log read from the position, which proves
twice a second that the copy was complete when the request was sent. Neither relies on the other,
and neither ends before `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from revokebus.bookmarks.follower import Follower
from revokebus.bookmarks.marker import Marker
from revokebus.errors import ConfigurationError, OtherDataSetError, RefusedError, StoreError
from revokebus.protocol.heartbeat import VERSION, Facts, Heartbeat, describe
from revokebus.protocol.revocation import is_refused, session_among
from revokebus.protocol.wire import decode_entry_id, encode_entry_id
from revokebus.replication.applier import Applier
from revokebus.replication.backend import Confirmed, Health
from revokebus.replication.confirmation import ConfirmationRequest, ConfirmationResponder
from revokebus.replication.log_reader import LogReader
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Comparison, Repair
from revokebus.replication.run import Run
from revokebus.replication.subscriber import Subscriber
from revokebus.replication.ticker import Ticker
from revokebus.store.audit import StartAudit, audit
from revokebus.store.exchanges import Exchanges
from revokebus.store.heartbeats import Heartbeats
from revokebus.store.listing import Listing
from revokebus.store.parts import StoreParts
from revokebus.store.writes import Written
from revokebus.tasks import end, finish
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.clock import Clock
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.continuity import Position
    from revokebus.protocol.exchange import Exchange, Exchanged
    from revokebus.protocol.fleet import Fleet
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.protocol.sign_in import SignIn
    from revokebus.replication.feed import Feed
    from revokebus.results import Finding, InstanceStatus
    from revokebus.settings.settings import Settings
    from revokebus.store.store import Store
    from revokebus.telemetry.counters import Counters

logger = logging.getLogger("revokebus")

_LAST_REPAIR_SECONDS = 5.0
_LOOKS_EVERY = 0.05
_COMPARED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Started:
    """What `start` has made, for the event loop that then runs.

    Attributes:
        run: What the tasks share.
        redis: The connections.
        audit: Whether this Redis may be used.
        subscriber: Receives what is pushed.
        reader: Proves the copy.
        marker: Writes bookmarks, where replicas are read from.
        tasks: Those that run until the end.
    """

    run: Run
    redis: StoreParts
    audit: StartAudit
    subscriber: Subscriber
    reader: LogReader
    marker: Marker | None
    tasks: Sequence[asyncio.Task[None]]

    async def end_tasks(self) -> None:
        """End the tasks, and the wait of a start."""
        self.subscriber.tried.set()
        self.run.decided.set()
        await end(self.tasks)


class RedisBackend:
    """The `Backend` that is Redis.

    Args:
        settings: The intervals and deadlines.
        denylist: The copy to keep fresh.
        clock: Tells the age of the copy.
        freshness: Is told of each proof.
        fleet: Is told the time at Redis.
        counters: Counts what happens.
        feed: Is told what was applied as it happened.
        credentials: Has the password of the moment, where the settings do not say it.
    """

    def __init__(
        self,
        settings: Settings,
        denylist: Denylist,
        clock: Clock,
        freshness: Freshness,
        fleet: Fleet,
        counters: Counters,
        feed: Feed,
        credentials: CredentialProvider | None = None,
    ) -> None:
        self._settings = settings
        self._denylist = denylist
        self._clock = clock
        self._freshness = freshness
        self._fleet = fleet
        self._counters = counters
        self._feed = feed
        self._credentials = credentials
        self._exchanges = Exchanges(clock)
        self._repair = Repair(denylist, self._exchanges, counters, clock.elapsed)
        self._outbox = Outbox(self._repair, clock)
        self._started: _Started | None = None
        self._writing = 0
        self._written: asyncio.Event | None = None
        self._last = Health(staleness=None)

    async def start(self) -> None:
        """Begin to keep the copy fresh; wait for the first proof, ``startup_timeout`` at most."""
        self._freshness.forget()
        self._started = started = self._begin()
        try:
            async with asyncio.timeout(self._settings.startup_timeout):
                await started.subscriber.tried.wait()
                await started.run.decided.wait()
            if started.audit.refusal:
                raise ConfigurationError(started.audit.refusal)
        except TimeoutError:
            logger.warning(
                "revokebus starts without a copy of the revocations and refuses until it has "
                "one; startup_timeout of %g s has passed: %s",
                self._settings.startup_timeout,
                self.health().last_error or "Redis has not answered yet",
                extra=event("started_without_copy"),
            )
        except BaseException:
            await self.stop()
            raise

    def _begin(self) -> _Started:
        self._outbox.restart()
        # Everything that belongs to an event loop is made anew for the one that runs now.
        redis = StoreParts.of(self._settings, self._clock, self._credentials)
        run = Run(self._clock, self._counters)
        audit = StartAudit(redis, self._settings, self._clock)
        applier = Applier(self._denylist, self._repair, run.conditions, self._feed)
        responder = ConfirmationResponder(
            run, redis.instances, lambda: not applier.is_busy and self._is_sure()
        )
        subscriber = Subscriber(
            run=run,
            store=redis.store,
            applier=applier,
            responder=responder,
            clock=self._clock,
            unseen_writes=redis.unseen_writes,
        )
        follower = marker = None
        if self._settings.reads_from_replica:
            follower = Follower(
                self._settings,
                self._clock,
                redis.reading,
                redis.names,
                Listing(redis.reading, redis.names, self._settings, redis.requests),
            )
            marker = Marker(
                self._settings,
                self._clock,
                redis.requests,
                redis.names,
                follower,
                lambda: run.continuity.epoch,
                run.ask_primary,
                run.conditions,
            )
        reader = LogReader(
            run,
            redis.store,
            redis.listing,
            audit=audit,
            denylist=self._denylist,
            applier=applier,
            repair=self._repair,
            unseen_writes=redis.unseen_writes,
            fleet=self._fleet,
            heartbeats=Heartbeats(
                clock=self._clock,
                register=redis.instances,
                facts=self._facts(),
                tell=self._heartbeat,
            ),
            follower=follower,
            hold=lambda: self._outbox.hold(redis.store),
            owes=lambda: bool(self._outbox),
        )
        ticker = Ticker(
            run=run,
            reader=reader,
            outbox=self._outbox,
            comparison=Comparison(
                self._denylist, self._repair, self._clock, self._settings.tick_interval
            ),
            store=redis.store,
            denylist=self._denylist,
            freshness=self._freshness,
            settings=self._settings,
        )
        tasks = [
            asyncio.create_task(subscriber.subscribe_forever(), name="revokebus-subscriber"),
            asyncio.create_task(ticker.tick_forever(), name="revokebus-ticker"),
            asyncio.create_task(responder.answer_forever(), name="revokebus-responder"),
        ]
        if marker is not None:
            tasks.append(asyncio.create_task(marker.mark_forever(), name="revokebus-marker"))
        return _Started(run, redis, audit, subscriber, reader, marker, tasks)

    def _is_sure(self) -> bool:
        # What there was no room for is refused by asking Redis, unless that may fail unnoticed.
        return self._denylist.complete or self._settings.on_stale != "accept"

    def _facts(self) -> Facts:
        settings = self._settings
        return Facts(
            version=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            bound=self._freshness.bound,
            accepts_stale=settings.on_stale == "accept",
            interval=settings.tick_interval,
            longest_life=settings.longest_life,
            issuer=settings.own_issuer,
            checked_types=sorted(settings.checked_token_types),
            claims=sorted(settings.revocable_claims),
            leeway=settings.leeway,
            reads_from_replica=settings.reads_from_replica,
        )

    def _heartbeat(self, position: Position) -> Heartbeat:
        return Heartbeat(
            state=self._freshness.state,
            staleness=self._freshness.age,
            epoch=position.epoch,
            position=encode_entry_id(position.entry.id),
            entries=len(self._denylist),
            complete=self._denylist.complete,
            owed=len(self._outbox) + len(self._repair),
        )

    async def stop(self) -> None:
        """End all tasks, try once more to write what is owed, and close the connections.

        Done to its end, within some deadlines of Redis, also when the caller is cancelled.
        """
        if self._started is None:
            return
        self._last = self.health()
        started, self._started = self._started, None
        self._freshness.forget()
        await finish(self._end(started))

    async def _end(self, started: _Started) -> None:
        try:
            await started.end_tasks()
            self._freshness.forget()  # a last tick may have ended meanwhile
            await self._end_of_writes()
            store, epoch = started.redis.store, started.run.continuity.epoch
            while self._outbox:
                await self._outbox.save(store, epoch)
            async with asyncio.timeout(_LAST_REPAIR_SECONDS):
                await self._repair.write_back(store, epoch)
                while self._repair.is_looking:
                    await asyncio.sleep(_LOOKS_EVERY)
                    await self._repair.write_back(store, epoch)
        except Exception as error:  # noqa: BLE001 - whatever it was, what follows must be done
            started.run.conditions.note("unsaved", error)
        finally:
            with contextlib.suppress(StoreError):  # the heartbeat is forgotten by itself
                await started.redis.instances.deregister()
            if started.marker is not None:
                with contextlib.suppress(StoreError):
                    await started.marker.end_turn()
            await started.redis.close()
            await asyncio.sleep(0)  # requests that were under way now know
            self._log_what_is_owed()

    def _log_what_is_owed(self) -> None:
        if owed := len(self._outbox) + len(self._repair):
            logger.error(
                "revokebus ends with %d revocations that Redis does not hold",
                owed,
                extra=event("ended_owing"),
            )

    async def write(
        self, revocations: Sequence[Revocation], min_replicas: int, *, is_known: bool = False
    ) -> Written:
        """Make `revocations` durable and push them."""
        started = self._running()
        run, writes = started.run, started.redis.store.writes
        self._writing += 1
        try:
            self._check_usable(started)
            written = None
            if is_known and not min_replicas:
                written = await _found(started.redis.store, revocations)
            if written is None:
                epoch = run.continuity.epoch
                try:
                    written = await writes.write(revocations, epoch, min_replicas)
                except OtherDataSetError:
                    await self._other_data_set(run, epoch)
                    written = await writes.write(revocations, run.continuity.epoch, min_replicas)
        except BaseException as error:
            # Also when the request that waits here is cancelled: it was promised.
            self._counters.write_failures += 1
            self.keep(revocations)
            run.wake.set()
            if isinstance(error, RefusedError):
                await self._push_refused(started, revocations)
            raise
        finally:
            self._writing -= 1
            if self._written is not None and not self._writing:
                self._written.set()
        # A push that was refused is no loss, but others hear of it at their next tick only.
        run.conditions.note_or_over("publisher", written.unheard)
        return written

    async def _other_data_set(self, run: Run, epoch: str) -> None:
        """Wait until the ticker has found out which data set there is, if not that of `epoch`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.redis_timeout):
                while run.continuity.epoch == epoch:
                    read = run.read  # it may end one that has begun before
                    run.ask_primary()
                    await read.wait()

    async def _end_of_writes(self) -> None:
        """Wait until what is being written has its answer, for a deadline of Redis at most."""
        if self._writing:
            self._written = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.redis_timeout):
                    await self._written.wait()
            self._written = None

    def keep(self, revocations: Sequence[Revocation]) -> None:
        """Apply `revocations` here, and write them with the next tick."""
        self._outbox.add(revocations)
        for revocation in revocations:  # beyond max_entries, too: no other instance has it
            self._denylist.add(revocation, always=True)

    def _check_usable(self, started: _Started) -> None:
        if started.audit.refusal:
            raise StoreError(started.audit.refusal)

    async def _push_refused(self, started: _Started, revocations: Sequence[Revocation]) -> None:
        """Publish what Redis will not record: it accepts a PUBLISH while it is full."""
        if started.run.continuity.epoch:
            with contextlib.suppress(StoreError):  # the error that led here is raised
                await started.redis.store.writes.push(started.run.continuity.epoch, revocations)

    async def exchange(
        self, session: Target, exchange: Exchange, unless: Sequence[Target]
    ) -> Exchanged:
        """Let Redis decide, and report to it that the answer has arrived."""
        started = self._running()
        self._check_usable(started)
        store, epoch = started.redis.store, started.run.continuity.epoch
        exchanged = await store.sessions.exchange(session, exchange, unless, epoch)
        if exchanged.generation:
            # Where the request is cancelled meanwhile it was not delivered, and nothing is noted.
            is_known = True
            try:
                await store.sessions.delivered(session, exchanged.generation)
            except StoreError:
                is_known = False
            self._exchanges.note(session, exchanged, exchange.life)
            if not is_known:
                self._exchanges.owe(session)
        return exchanged

    async def generation(self, session: Target) -> int | None:
        """Ask Redis."""
        started = self._running()
        self._check_usable(started)
        return await started.redis.store.sessions.generation(session)

    async def sign_in(self, user: Target, sign_in: SignIn, life: float) -> None:
        """Write it to Redis."""
        await self._running().redis.store.sessions.list_one(user, sign_in, life)

    async def sign_ins(self, user: Target) -> Sequence[SignIn]:
        """Ask Redis."""
        return await self._running().redis.store.sessions.listed(user)

    async def refuses(self, targets: Sequence[Target], since: float) -> bool:
        """Ask Redis, after looking at what is not yet written there."""
        unsaved = [found for target in targets if (found := self._outbox.get(target))]
        session = session_among(targets)
        if any(is_refused(since, each.cut_off_of(session)) for each in unsaved):
            return True  # revoked here, where the copy may have had no room for it
        started = self._running()
        self._check_usable(started)
        return await started.redis.store.refuses(targets, since, started.run.continuity.epoch)

    async def catch_up(self) -> None:
        """Wait for the tick that is overdue."""
        run = self._running().run
        if (seconds := run.longest_wait(self._settings.redis_timeout)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await run.known.wait()

    async def instances(self) -> int:
        """Ask Redis of how many it has heard lately."""
        return len((await self._running().redis.instances.list()).live)

    async def fleet(self) -> Sequence[InstanceStatus]:
        """Ask each instance, over Redis, how it is."""
        instances = self._running().redis.instances
        known = await instances.look()
        return describe(known.live.values(), instances.instance)

    async def confirm(self, written: Written, began: float, timeout: float) -> Confirmed:
        """Ask every instance whether it has what was written."""
        instances = self._running().redis.instances
        if written.position is None:
            return Confirmed()
        entry = decode_entry_id(written.position.encode())
        bound = self._settings.max_staleness
        request = ConfirmationRequest(
            instances, self._running().run, bound, written.epoch, entry, began
        )
        return await request.ask(timeout)

    async def audit(self) -> Sequence[Finding]:
        """Look at Redis and at the settings for what endangers the promises."""
        return await audit(self._running().redis, self._settings, self._clock)

    def health(self) -> Health:
        """Return what is known."""
        if self._started is None:
            unsaved = len(self._outbox)
            return replace(
                self._last,
                staleness=None,
                subscribed=False,
                unsaved=unsaved,
                instance=None,
                sees_restarts=None,
            )
        position = self._started.run.continuity.position
        return Health(
            staleness=self._freshness.age,
            position=encode_entry_id(position.entry.id) if position else None,
            subscribed=self._started.subscriber.subscribed,
            last_error=str(self._started.run.conditions) or None,
            ignored=dict(self._started.run.conditions.ignored),
            unsaved=len(self._outbox),
            instance=self._started.redis.instances.instance,
            sees_restarts=self._started.run.sees_restarts,
        )

    def _running(self) -> _Started:
        if self._started is None:
            raise StoreError("the bus is not running")
        return self._started


async def _found(store: Store, revocations: Sequence[Revocation]) -> Written | None:
    """Return where the log stands if Redis has all of `revocations`; a client may repeat itself."""
    for at in range(0, len(revocations), _COMPARED_AT_ONCE):
        if await store.missing(revocations[at : at + _COMPARED_AT_ONCE]):
            return None
    end_of_log = await store.position()
    return Written(encode_entry_id(end_of_log.entry.id), end_of_log.epoch)
