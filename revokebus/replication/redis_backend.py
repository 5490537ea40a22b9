"""Keeps the local copy fresh: a subscriber for speed, a ticker for proof.

The subscriber applies what is pushed. The ticker reads the log from the position and so proves,
twice a second, that the copy was complete at the moment the request was sent. Neither trusts
the other, and neither ends before `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from revokebus.errors import ConfigurationError, OtherDataSetError, RefusedError, StoreError
from revokebus.protocol.continuity import Continuity
from revokebus.protocol.heartbeat import describe
from revokebus.protocol.revocation import Spending, Spent, is_refused
from revokebus.protocol.wire import decode_entry_id, encode_entry_id
from revokebus.replication.applier import Applier
from revokebus.replication.backend import Confirmed, Health, Recorded
from revokebus.replication.confirmation import ConfirmationRequest, ConfirmationResponder
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Repair
from revokebus.replication.subscriber import Subscriber
from revokebus.replication.ticker import Ticker
from revokebus.store.audit import audit
from revokebus.tasks import end, finish
from revokebus.telemetry.conditions import Conditions
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from revokebus.clock import Clock, ExpiryClock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.revocation import Revocation, Target, Terms
    from revokebus.replication.feed import Feed
    from revokebus.results import Finding, InstanceStatus
    from revokebus.settings.settings import Settings
    from revokebus.store.store import Store, Written
    from revokebus.telemetry.counters import Counters

logger = logging.getLogger("revokebus")

_LAST_REPAIR_SECONDS = 5.0


class RedisBackend:
    """The `Backend` that is Redis.

    Args:
        settings: The intervals and deadlines.
        denylist: The copy to keep fresh.
        clock: Tells the age of the copy.
        expiry_clock: The one that the copy goes by.
        freshness: Is told of each proof.
        counters: Is told what has happened.
        feed: Is told what was applied as it happened.
        connect: Makes the `Store`, at each start, for the event loop that then runs.
    """

    def __init__(
        self,
        settings: Settings,
        denylist: Denylist,
        clock: Clock,
        expiry_clock: ExpiryClock,
        freshness: Freshness,
        counters: Counters,
        feed: Feed,
        connect: Callable[[], Store],
    ) -> None:
        self._settings = settings
        self._denylist = denylist
        self._clock = clock
        self._expiry_clock = expiry_clock
        self._freshness = freshness
        self._counters = counters
        self._feed = feed
        self._connect = connect
        self._outbox = Outbox()
        self._repair = Repair(denylist, counters)
        self._run: _Run | None = None
        self._writing: set[asyncio.Future[None]] = set()
        self._last = Health(staleness=None)

    async def start(self) -> None:
        """Begin to keep the copy fresh; wait for the first proof, ``startup_timeout`` at most."""
        self._freshness.forget()
        self._run = run = self._begin()
        try:
            async with asyncio.timeout(self._settings.startup_timeout):
                await run.subscriber.tried.wait()
                await run.ticker.decided.wait()
            if run.ticker.refusal:
                raise ConfigurationError(run.ticker.refusal)
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

    def _begin(self) -> _Run:
        # Everything that belongs to an event loop is made anew for the one that runs now.
        store, conditions, wake = self._connect(), Conditions(), asyncio.Event()
        continuity = Continuity()
        applier = Applier(self._denylist, self._repair, conditions, self._feed)
        responder = ConfirmationResponder(
            store.instances, continuity, self._is_sure, conditions, wake
        )
        subscriber = Subscriber(
            store=store,
            continuity=continuity,
            applier=applier,
            responder=responder,
            counters=self._counters,
            clock=self._clock,
            conditions=conditions,
            wake=wake,
        )
        ticker = Ticker(
            settings=self._settings,
            store=store,
            denylist=self._denylist,
            continuity=continuity,
            applier=applier,
            responder=responder,
            repair=self._repair,
            outbox=self._outbox,
            clock=self._clock,
            expiry_clock=self._expiry_clock,
            conditions=conditions,
            wake=wake,
            freshness=self._freshness,
            counters=self._counters,
        )
        return _Run(subscriber, ticker, responder)

    def _is_sure(self) -> bool:
        # What there was no room for is refused by asking Redis, unless that may fail unnoticed.
        return self._denylist.complete or self._settings.on_stale != "accept"

    async def stop(self) -> None:
        """End both tasks, try once more to write what is unsaved, and close the connections.

        Done to its end, within some deadlines of Redis, also when the caller is cancelled.
        """
        if self._run is None:
            return
        self._last = self.health()
        run, self._run = self._run, None
        self._freshness.forget()
        await finish(self._end(run))

    async def _end(self, run: _Run) -> None:
        try:
            await run.end()
            self._freshness.forget()  # a last tick may have ended meanwhile
            if self._writing:
                await asyncio.wait(self._writing, timeout=self._settings.redis_timeout)
            while self._outbox:
                await self._outbox.save(run.store, run.continuity.epoch)
            async with asyncio.timeout(_LAST_REPAIR_SECONDS):
                await self._repair.write_back(run.store, run.continuity.epoch)
        except Exception as error:  # noqa: BLE001 - whatever it was, what follows must be done
            run.conditions.note("unsaved", error)
        finally:
            with contextlib.suppress(StoreError):  # the heartbeat is forgotten by itself
                await run.store.instances.deregister()
            await run.store.close()
            await asyncio.sleep(0)  # requests that were under way now know
            self._log_what_is_owed()

    def _log_what_is_owed(self) -> None:
        if owed := len(self._outbox) + len(self._repair):
            logger.error(
                "revokebus ends with %d revocations that Redis does not hold",
                owed,
                extra=event("ended_owing"),
            )

    async def write(self, revocations: Sequence[Revocation], min_replicas: int) -> Recorded:
        """Make `revocations` durable and push them."""
        run = self._running()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing.add(done)
        try:
            self._check_usable(run)
            written = await self._write(run, revocations, min_replicas)
        except BaseException as error:
            # Also when the request that waits here is cancelled: it was promised.
            self._counters.write_failures += 1
            self._keep(revocations)
            run.wake.set()
            if isinstance(error, RefusedError):
                await self._push_refused(run, revocations)
            raise
        finally:
            self._writing.discard(done)
            done.set_result(None)
        # A push that was refused is no loss, but others hear of it at their next tick only.
        run.conditions.note_or_over("publisher", written.unheard)
        return Recorded(written.position, written.epoch, written.replicas)

    async def _write(
        self, run: _Run, revocations: Sequence[Revocation], min_replicas: int
    ) -> Written:
        try:
            epoch = run.continuity.epoch
            return await run.store.write(revocations, epoch, min_replicas=min_replicas)
        except OtherDataSetError:
            # Once the ticker has found out what happened, it can be written after all.
            read = run.ticker.read
            run.wake.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.redis_timeout):
                    await read.wait()
            epoch = run.continuity.epoch
            return await run.store.write(revocations, epoch, min_replicas=min_replicas)

    def _keep(self, revocations: Sequence[Revocation]) -> None:
        self._outbox.add(revocations)
        for revocation in revocations:  # beyond max_entries, too: nobody else has it
            self._denylist.add(revocation, always=True)

    def _check_usable(self, run: _Run) -> None:
        if run.ticker.refusal:
            raise StoreError(run.ticker.refusal)

    async def _push_refused(self, run: _Run, revocations: Sequence[Revocation]) -> None:
        """Tell the others what Redis will not record: it accepts a PUBLISH while it is full."""
        if run.continuity.epoch:
            with contextlib.suppress(StoreError):  # the error that led here is raised
                await run.store.push(run.continuity.epoch, revocations)

    async def spend(self, spent: Revocation, unless: Sequence[Target], terms: Terms) -> Spent:
        """Let Redis decide; what this process knows already needs no asking."""
        run = self._running()
        self._check_usable(run)
        if self._denylist.holds(spent):
            note = await run.store.spent_note(str(spent.value)) if terms.grace else None
            return Spent(Spending.SPENT, note)
        outcome = await run.store.spend(spent, unless, run.continuity.epoch, terms)
        if outcome.outcome is not Spending.REVOKED:
            self._denylist.add(spent)
        return outcome

    async def refuses(self, targets: Sequence[Target], since: float) -> bool:
        """Ask Redis, after looking at what is not yet written there."""
        unsaved = [found for target in targets if (found := self._outbox.get(target))]
        if any(is_refused(since, each.cut_off) for each in unsaved):
            return True  # revoked here, where the copy may have had no room for it
        run = self._running()
        self._check_usable(run)
        return await run.store.refuses(targets, since, run.continuity.epoch)

    async def instances(self) -> int:
        """Ask Redis how many are subscribed."""
        return await self._running().store.subscribers()

    async def fleet(self) -> Sequence[InstanceStatus]:
        """Ask Redis how each instance is."""
        instances = self._running().store.instances
        roll = await instances.call()
        return describe(roll.live.values(), instances.instance)

    async def confirm(self, recorded: Recorded, began: float, timeout: float) -> Confirmed:
        """Ask every instance whether it has what was recorded."""
        instances = self._running().store.instances
        if recorded.position is None:
            return Confirmed()
        entry = decode_entry_id(recorded.position.encode())
        bound = self._settings.max_staleness
        request = ConfirmationRequest(instances, self._clock, bound, recorded.epoch, entry, began)
        try:
            return await request.ask(timeout)
        except (RedisError, OSError) as error:  # of the subscription
            raise StoreError(f"Redis: {error}".rstrip(".")) from error

    async def audit(self) -> Sequence[Finding]:
        """Look at Redis and at the settings for what endangers the promises."""
        return await audit(self._running().store, self._settings, self._clock)

    def health(self) -> Health:
        """Return what is known."""
        if self._run is None:
            unsaved = len(self._outbox)
            return replace(
                self._last, staleness=None, subscribed=False, unsaved=unsaved, instance=None
            )
        position = self._run.continuity.position
        return Health(
            staleness=self._freshness.age,
            position=encode_entry_id(position.entry.id) if position else None,
            subscribed=self._run.subscriber.subscribed,
            last_error=str(self._run.conditions) or None,
            ignored=dict(self._run.conditions.ignored),
            unsaved=len(self._outbox),
            instance=self._run.store.instances.instance,
        )

    def _running(self) -> _Run:
        if self._run is None:
            raise StoreError("the bus is not running")
        return self._run


class _Run:
    """Everything between one start and its stop.

    Args:
        subscriber: Is run until the end.
        ticker: Likewise.
        responder: Likewise.
    """

    def __init__(
        self, subscriber: Subscriber, ticker: Ticker, responder: ConfirmationResponder
    ) -> None:
        self.subscriber = subscriber
        self.ticker = ticker
        self.store = ticker.store
        self.continuity = ticker.continuity
        self.conditions = ticker.conditions
        self.wake = ticker.wake
        self._tasks = [
            asyncio.create_task(subscriber.run(), name="revokebus-subscriber"),
            asyncio.create_task(ticker.run(), name="revokebus-ticker"),
            asyncio.create_task(responder.run(), name="revokebus-answerer"),
        ]

    async def end(self) -> None:
        """End both tasks, and the wait of a start."""
        self.subscriber.tried.set()
        self.ticker.decided.set()
        await end(self._tasks)
