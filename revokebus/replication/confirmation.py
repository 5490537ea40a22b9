"""Who has applied an entry of the log: how an instance asks the fleet, and how one answers.

The instances are asked once, on the channel, and each answers by itself. Only where an answer is
missing are all asked for heartbeats as well, with each tick, and Redis what these say.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from typing import TYPE_CHECKING

from revokebus.errors import StoreError, WireError
from revokebus.protocol.heartbeat import LONGEST_HEARTBEAT_SECONDS
from revokebus.protocol.wire import Inquiry, decode_instance
from revokebus.replication.backend import Confirmed
from revokebus.results import Confirmation
from revokebus.store.instances import ASKED_SECONDS
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from revokebus.connection.channels import Inbox
    from revokebus.protocol.heartbeat import Instance
    from revokebus.protocol.wire import EntryId
    from revokebus.replication.run import Run
    from revokebus.results import Outcome
    from revokebus.store.instances import Instances, KnownInstances

_MOST_WAITING = 1000
_LOOK_EVERY = 0.5
_CLOCKS = 1.0


class ConfirmationRequest:
    """Asks a fleet about one entry.

    Args:
        instances: The channel and the heartbeats.
        run: Tells how fast the answers are, and when no heartbeat could be sent.
        bound: What ``max_staleness`` is here, in seconds.
        epoch: The data set that the entry is in.
        entry: The entry.
        began: The moment that answers are timed from, in elapsed seconds.
    """

    def __init__(
        self,
        instances: Instances,
        run: Run,
        bound: float,
        epoch: str,
        entry: EntryId,
        began: float,
    ) -> None:
        self._instances = instances
        self._run = run
        self._clock = run.clock
        self._inquiry = Inquiry(epoch, entry, secrets.token_hex(8))
        self._began = began
        # Here it was applied before it was written.
        self._seconds: dict[str, float] = {instances.instance: 0.0}
        self._answered = asyncio.Event()
        self._fleet: dict[str, Instance] = {}
        self._unanswered: dict[str, None] = {}
        self._heard_at: dict[str, float] = {}
        self._ended: frozenset[str] = frozenset()
        self._longest_bound = bound
        self._asked_since = self._asked_until = math.inf
        self._known_since = math.inf
        self._confirmed_at = -math.inf

    async def ask(self, timeout: float) -> Confirmed:
        """Return what became of the entry at each instance that may have lived when it was written.

        Args:
            timeout: For how many seconds to wait.

        Raises:
            StoreError: It is not known which instances there are, or was not in time.
        """
        deadline = self._clock.elapsed() + timeout
        try:
            async with (
                asyncio.timeout(timeout),
                self._instances.answers(self._inquiry.name) as answers,
            ):
                listening = asyncio.create_task(self._listen(answers))
                try:
                    await self._instances.inquire(self._inquiry)
                    self._take(known := await self._instances.list(), known.live)
                    await self._wait(deadline)
                finally:
                    await end([listening])
        except TimeoutError:
            if self._known_since == math.inf:
                message = f"Redis did not say within {timeout:g} s who is to answer"
                raise StoreError(message) from None
        now = self._clock.elapsed()
        confirmations = tuple(self._confirmation(each, now) for each in self._fleet.values())
        knows_all = self._confirmed_at >= self._began and now >= self._all_known_at()
        return Confirmed(confirmations, knows_all)

    async def _listen(self, answers: Inbox) -> None:
        # Where it ends, the heartbeats are looked at.
        with contextlib.suppress(StoreError):
            async for answer in answers:
                with contextlib.suppress(WireError):
                    self._note(decode_instance(answer))

    def _note(self, instance: str) -> None:
        self._seconds.setdefault(instance, self._clock.elapsed() - self._began)
        self._unanswered.pop(instance, None)
        self._answered.set()

    def _take(self, known: KnownInstances, asked: Iterable[str]) -> None:
        """Note what heartbeats say; the last one of an instance that is missing came before."""
        now = self._clock.elapsed()
        for name in asked:
            if instance := known.live.get(name):
                self._fleet[name] = instance
                self._longest_bound = max(self._longest_bound, instance.facts.bound)
                if name not in self._seconds:
                    self._unanswered[name] = None
                self._heard_at[name] = now - instance.silence
                if instance.has(self._inquiry.epoch, self._inquiry.entry):
                    self._note(name)
        self._ended |= known.ended
        self._known_since = max(now - known.age, self._run.refused_at)
        self._confirmed_at = known.confirmed_at

    async def _wait(self, deadline: float) -> None:
        while not self._is_over(deadline):
            self._answered.clear()
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._answered.wait()
            except TimeoutError:
                with contextlib.suppress(StoreError):
                    unanswered, asked_at = tuple(self._unanswered), self._clock.elapsed()
                    self._take(await self._instances.some(unanswered, asked=True), unanswered)
                    self._note_asked(asked_at)

    def _is_over(self, deadline: float) -> bool:
        """Return whether waiting until then changes nothing any more."""
        now = self._clock.elapsed()
        if now >= deadline:
            return True
        if any(self._outcome(self._fleet[each], now) == "silent" for each in self._unanswered):
            return False
        return not now < self._all_known_at() <= deadline

    def _all_known_at(self) -> float:
        """Return when whoever was cut off from other data knows that its copy is stale."""
        return self._known_since + self._longest_bound

    def _note_asked(self, asked_at: float) -> None:
        """Note that from now on, or since earlier, each tick brings a heartbeat."""
        if asked_at > self._asked_until or self._asked_since == math.inf:
            self._asked_since = self._clock.elapsed()
        self._asked_until = asked_at + ASKED_SECONDS - _LOOK_EVERY

    def _outcome(self, instance: Instance, now: float) -> Outcome:
        if instance.name in self._seconds:
            return "applied"
        if instance.name in self._ended:
            return "ended"
        # With whatever has proven its copy since it was asked, or since the next heartbeat was
        # due, it would have sent one; unless Redis accepted no writes.
        heard_at = self._heard_at[instance.name]
        written_at = max(heard_at, self._run.refused_at)
        due_at = written_at + LONGEST_HEARTBEAT_SECONDS + _CLOCKS
        proven_at = max(heard_at, min(self._asked_since, due_at))
        may_accept = instance.facts.accepts_stale or now <= proven_at + instance.facts.bound
        return "silent" if may_accept else "stale"

    def _confirmation(self, instance: Instance, now: float) -> Confirmation:
        return Confirmation(
            instance=instance.name,
            host=instance.facts.host,
            pid=instance.facts.pid,
            outcome=self._outcome(instance, now),
            seconds=self._seconds.get(instance.name),
        )


class ConfirmationResponder:
    """Keeps questions until they can be answered; a failure is the asker's to notice.

    Args:
        run: The position, and what is woken where a question waits for the log.
        instances: Sends answers.
        is_sure: Returns whether what is in the log is refused here, by the copy or by asking Redis.
    """

    def __init__(self, run: Run, instances: Instances, is_sure: Callable[[], bool]) -> None:
        self._run = run
        self._instances = instances
        self._is_sure = is_sure
        run.on_read.append(self.look)
        self._waiting: dict[str, Inquiry] = {}
        self._due = asyncio.Event()

    def ask(self, inquiry: Inquiry) -> None:
        """Answer `inquiry` as soon as it can be."""
        if len(self._waiting) >= _MOST_WAITING:  # whoever asked first waits no more
            self._run.conditions.ignore("message", "crowded")
            del self._waiting[next(iter(self._waiting))]
        self._waiting[inquiry.name] = inquiry
        (self._due if self._can_answer(inquiry) else self._run.wake).set()

    def look(self) -> None:
        """Note that more was applied."""
        if any(self._can_answer(inquiry) for inquiry in self._waiting.values()):
            self._due.set()

    def _can_answer(self, inquiry: Inquiry) -> bool:
        covers = self._run.continuity.covers(inquiry.epoch, inquiry.entry)
        return covers and self._is_sure()

    async def answer_forever(self) -> None:
        """Answer until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            for inquiry in [each for each in self._waiting.values() if self._can_answer(each)]:
                if self._waiting.pop(inquiry.name, None) is None:
                    continue  # others have crowded it out meanwhile
                try:
                    await self._instances.answer(inquiry)
                except Exception as error:  # noqa: BLE001 - a silent end would leave all unanswered
                    self._run.conditions.note("answers", error)
                else:
                    self._run.conditions.over("answers")
