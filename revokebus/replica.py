"""Keeps the local copy fresh: a subscriber for speed, a ticker for proof.

The subscriber applies what is pushed. The ticker reads the log from the position and so proves,
twice a second, that the copy was complete at the moment the request was sent. Neither trusts
the other, and neither ends before `stop`: whatever goes wrong is noted, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from typing import TYPE_CHECKING

from redis.backoff import ExponentialWithJitterBackoff

from revokebus.acknowledged import Acknowledged
from revokebus.continuity import Break, Continuity, Push
from revokebus.errors import StoreError, WireError
from revokebus.repair import Repair
from revokebus.revocation import Spending
from revokebus.troubles import Troubles
from revokebus.upstream import Health
from revokebus.wire import decode_message, decode_payload, decode_row_id, encode_row_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from revokebus.clock import Clock, ExpiryClock
    from revokebus.denylist import Denylist
    from revokebus.revocation import Revocation
    from revokebus.settings import Settings
    from revokebus.store import Page, Store, Written

logger = logging.getLogger("revokebus")

_JITTER = 0.1
_SHORTEST_PAUSE = 0.02
_LONGEST_BACKOFF = 1.0
_SWEPT_PER_TICK = 1000
_RESYNCS_PER_TICK = 3
_APPLIED_AT_ONCE = 500
_SAVED_AT_ONCE = 5000
_CANCEL_AGAIN = 0.1
_LASTING = 5.0
_MOST_FAILURES = 10


class Replica:
    """The `Upstream` that is Redis.

    Args:
        settings: The intervals and deadlines.
        denylist: The copy to keep fresh.
        clock: Tells the age of the copy.
        expiry_clock: The one that the copy goes by.
        connect: Makes the `Store`, at each start, for the event loop that then runs.
    """

    def __init__(
        self,
        settings: Settings,
        denylist: Denylist,
        clock: Clock,
        expiry_clock: ExpiryClock,
        connect: Callable[[], Store],
    ) -> None:
        self._settings = settings
        self._denylist = denylist
        self._clock = clock
        self._expiry_clock = expiry_clock
        self._times_set_back = 0
        self._connect = connect
        self._store: Store | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._continuity = Continuity()
        self._proven_at: float | None = None
        self._unsaved: dict[Revocation, None] = {}
        self._repair = Repair(denylist)
        self._acknowledged = Acknowledged()
        self._subscribed = False
        self._troubles = Troubles()
        self._wake, self._fresh = asyncio.Event(), asyncio.Event()
        self._subscription_tried = asyncio.Event()

    async def start(self) -> None:
        """Begin to keep the copy fresh; wait for the first proof, ``startup_timeout`` at most."""
        self._store = self._connect()
        self._continuity = Continuity()
        self._proven_at = None
        self._troubles = Troubles()
        # New ones for each start: an event belongs to the loop that first waits for it.
        self._wake, self._fresh = asyncio.Event(), asyncio.Event()
        self._subscription_tried = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._listen(self._store), name="revokebus-subscriber"),
            asyncio.create_task(self._prove(self._store), name="revokebus-ticker"),
        ]
        try:
            async with asyncio.timeout(self._settings.startup_timeout):
                await self._subscription_tried.wait()
                await self._fresh.wait()
        except TimeoutError:
            logger.warning(
                "revokebus starts without a copy of the revocations and refuses until it has "
                "one; startup_timeout of %g s has passed: %s",
                self._settings.startup_timeout,
                self.health().last_error or "Redis has not answered yet",
            )
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End both tasks, try once more to write what is unsaved, and close the connections."""
        store, self._store = self._store, None
        tasks, self._tasks = self._tasks, []
        self._proven_at = None
        if store is None:
            return
        self._subscription_tried.set()  # a start that still waits
        self._fresh.set()
        try:
            await _end(tasks)
            while self._unsaved:
                await self._save(store)
        except Exception as error:  # noqa: BLE001 - whatever it was, what follows must be done
            self._troubles.note("unsaved", error)
        finally:
            await store.close()
            await asyncio.sleep(0)  # requests that were under way now know
            if self._unsaved:
                logger.error(
                    "revokebus ends with %d revocations that Redis does not hold",
                    len(self._unsaved),
                )

    async def write(self, revocations: Sequence[Revocation]) -> str | None:
        """Make `revocations` durable and push them."""
        try:
            written = await self._running_store().write(revocations)
        except BaseException:
            # Also when the request that waits here is cancelled: it was promised.
            self._unsaved |= dict.fromkeys(revocations)
            self._wake.set()
            raise
        self._note_unheard(written)
        self._remember(written, revocations)
        return written.position

    def _remember(self, written: Written, revocations: Sequence[Revocation]) -> None:
        row, position = decode_row_id(written.position.encode()), self._continuity.position
        if position is None or row > position.row.id:  # else it has been read already
            self._acknowledged.remember(row, self._clock.elapsed(), revocations)

    async def spend(self, spent: Revocation, unless: Sequence[Revocation]) -> Spending:
        """Let Redis decide; what this process knows already needs no asking."""
        if any(self._denylist.holds(revocation) for revocation in unless):
            return Spending.REVOKED
        if self._denylist.holds(spent):
            return Spending.SPENT
        outcome = await self._running_store().spend(spent, unless)
        if outcome is not Spending.REVOKED:
            self._denylist.add(spent)
        return outcome

    async def has_record(self, revocations: Sequence[Revocation]) -> bool:
        """Ask Redis whether any of `revocations` is recorded."""
        store = self._running_store()
        # A copy that knows nothing would not refuse what a Redis that lost its data lacks, too.
        if self._proven_at is None and (why := await store.unsettled()):
            raise StoreError(why)
        return await store.has_record(revocations)

    def age(self) -> float | None:
        """Return seconds since the copy was last proven complete, None if it never was."""
        return None if self._proven_at is None else self._clock.elapsed() - self._proven_at

    def health(self) -> Health:
        """Return what is known."""
        position = self._continuity.position
        return Health(
            staleness=self.age(),
            position=encode_row_id(position.row.id) if position else None,
            subscribed=self._subscribed,
            last_error=str(self._troubles) or None,
            ignored=dict(self._troubles.ignored),
            unsaved=len(self._unsaved),
        )

    def _running_store(self) -> Store:
        if self._store is None:
            raise StoreError("the bus is not running")
        return self._store

    # The subscriber

    async def _listen(self, store: Store) -> None:
        backoff = ExponentialWithJitterBackoff(cap=_LONGEST_BACKOFF, base=_SHORTEST_PAUSE)
        failures = 0
        while True:
            began = self._clock.elapsed()
            try:
                async with store.subscribe() as messages:
                    self._subscribed = True
                    self._troubles.over("subscriber")
                    self._subscription_tried.set()
                    self._wake.set()  # what was published while nobody listened
                    async for message in messages:
                        self._hear(message)
            except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
                self._troubles.note("subscriber", error)
            finally:
                self._subscribed = False
            self._subscription_tried.set()
            lasted = self._clock.elapsed() - began > _LASTING
            # Bounded, because the exponent outgrows a float after some minutes of outage.
            failures = 1 if lasted else min(failures + 1, _MOST_FAILURES)
            await asyncio.sleep(backoff.compute(failures))

    def _hear(self, data: bytes) -> None:
        try:
            message = decode_message(data)
        except WireError as error:
            self._troubles.ignore("message", error.kind)
            return
        push = self._continuity.hear(message)
        if push is not Push.TICK:
            self._apply("message", message.payload)
        if push is not Push.APPLY:
            self._wake.set()

    # The ticker

    async def _prove(self, store: Store) -> None:
        while True:
            self._wake.clear()
            try:
                await self._tick(store)
                self._troubles.over("ticker")
                self._fresh.set()
            except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
                self._troubles.note("ticker", error)
            else:
                await self._try("unsaved", self._save(store))
                await self._try("repair", self._repair.write_back(store))
            self._say_if_stale()
            self._denylist.sweep(_SWEPT_PER_TICK)
            await self._pause()

    def _say_if_stale(self) -> None:
        age = self.age()
        if age is None:
            return
        if age > self._settings.max_staleness:
            self._troubles.note(
                "copy", f"stale, no proof within {self._settings.max_staleness:g} s"
            )
        elif self._troubles.over("copy"):
            logger.warning("revokebus: the copy is fresh again")

    async def _pause(self) -> None:
        await asyncio.sleep(_SHORTEST_PAUSE)
        interval = self._settings.tick_interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._wake.wait()

    async def _tick(self, store: Store) -> None:
        """Read the log to its end; the copy is then proven as of the last request's sending."""
        breaks = 0
        self._expiry_clock.now()
        if self._times_set_back != self._expiry_clock.times_set_back:
            await self._list(store, Break.CLOCK_SET_BACK)
            self._times_set_back = self._expiry_clock.times_set_back
        while True:
            sent = self._clock.elapsed()
            page = await self._read(store)
            rows = self._continuity.read(page.epoch, page.rows) if page else Break.NOT_LISTED
            if isinstance(rows, Break):
                breaks += 1
                if breaks > _RESYNCS_PER_TICK:
                    raise StoreError("the log does not stay the same while it is read")
                await self._list(store, rows)
                continue
            self._acknowledged.seen(rows)
            await self._apply_all("row", [row.payload for row in rows])
            if page is not None and not page.more:
                if missed := self._acknowledged.missed(sent):
                    logger.warning("revokebus: Redis lost %d acknowledged writes", len(missed))
                    self._repair.lost(missed)
                self._proven_at = sent
                return

    async def _read(self, store: Store) -> Page | None:
        position = self._continuity.position
        return await store.read(position) if position else None

    async def _list(self, store: Store, reason: Break) -> None:
        """Add every record that Redis has; what is here already stays."""
        if reason is not Break.NOT_LISTED:
            logger.warning("revokebus lists all revocations again: %s", reason.value)
        # The position first: what comes after it is read from the log.
        position = await store.position()
        if reason is Break.NOT_LISTED and (why := await store.unsettled()):
            raise StoreError(why)
        self._repair.begin()
        async for payloads in store.records():
            await self._apply_all("record", payloads)
        await self._repair.compare()
        self._acknowledged.clear()
        self._continuity.restart(position)

    async def _try(self, part: str, work: Awaitable[None]) -> None:
        try:
            await work
            self._troubles.over(part)
        except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
            self._troubles.note(part, error)

    async def _save(self, store: Store) -> None:
        """Write some of what could not be written when it was revoked."""
        unsaved = list(itertools.islice(self._unsaved, _SAVED_AT_ONCE))
        if not unsaved:
            return
        self._note_unheard(await store.write(unsaved))
        for revocation in unsaved:
            self._unsaved.pop(revocation, None)
        logger.info("revokebus has written %d revocations that were unsaved", len(unsaved))

    def _note_unheard(self, written: Written) -> None:
        """A push that was refused is no loss, but others hear of it at their next tick only."""
        if written.unheard:
            self._troubles.note("publisher", written.unheard)
        else:
            self._troubles.over("publisher")

    async def _apply_all(self, source: str, payloads: Sequence[bytes | None]) -> None:
        applied = 0
        for payload in payloads:
            applied += self._apply(source, payload)
            if applied >= _APPLIED_AT_ONCE:
                applied = 0
                await asyncio.sleep(0)  # let requests through

    def _apply(self, source: str, payload: bytes | None) -> int:
        try:
            revocations = decode_payload(payload if payload is not None else b"")
        except WireError as error:
            self._troubles.ignore(source, error.kind)
            return 0
        for revocation in revocations:
            self._denylist.add(revocation)
        # A push is no proof that Redis has it.
        if source == "record":
            self._repair.listed(revocations)
        if source != "message":
            self._repair.has(revocations)
        return len(revocations)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    # Again and again: redis-py uses asyncio.wait_for, which loses a cancellation that comes
    # together with its result (before Python 3.12).
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN)
