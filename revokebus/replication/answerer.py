"""Answers who asks whether this instance has applied a row of the log."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from revokebus.protocol.continuity import Continuity
    from revokebus.protocol.wire import Inquiry
    from revokebus.store.instances import RollCall
    from revokebus.telemetry.conditions import Troubles

_MOST_WAITING = 1000


class Answerer:
    """Keeps questions until they can be answered; a failure is the asker's to notice.

    Args:
        roll_call: Sends answers.
        continuity: Knows what was applied.
        is_sure: Returns whether what is in the log is refused here, by the copy or by asking Redis.
        troubles: Counts questions that there is no room for.
        wake: Set where the log should be read at once, because a question waits for it.
    """

    def __init__(
        self,
        roll_call: RollCall,
        continuity: Continuity,
        is_sure: Callable[[], bool],
        troubles: Troubles,
        wake: asyncio.Event,
    ) -> None:
        self._roll_call = roll_call
        self._continuity = continuity
        self._is_sure = is_sure
        self._troubles = troubles
        self._wake = wake
        self._waiting: dict[str, Inquiry] = {}
        self._due = asyncio.Event()
        self._being_applied = 0

    def ask(self, inquiry: Inquiry) -> None:
        """Answer `inquiry` as soon as it can be."""
        if len(self._waiting) >= _MOST_WAITING:  # whoever asked first waits no more
            self._troubles.ignore("message", "crowded")
            del self._waiting[next(iter(self._waiting))]
        self._waiting[inquiry.name] = inquiry
        (self._due if self._can_answer(inquiry) else self._wake).set()

    def look(self) -> None:
        """Note that more was applied."""
        if any(self._can_answer(inquiry) for inquiry in self._waiting.values()):
            self._due.set()

    def _can_answer(self, inquiry: Inquiry) -> bool:
        covers = self._continuity.covers(inquiry.epoch, inquiry.row)
        return not self._being_applied and covers and self._is_sure()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Answer nothing while the body applies what was read or pushed."""
        self._being_applied += 1
        try:
            yield
        finally:
            self._being_applied -= 1
            self.look()

    async def run(self) -> None:
        """Answer until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            for inquiry in [each for each in self._waiting.values() if self._can_answer(each)]:
                if self._waiting.pop(inquiry.name, None) is None:
                    continue  # others have crowded it out meanwhile
                try:
                    await self._roll_call.answer(inquiry)
                except Exception as error:  # noqa: BLE001 - a silent end would leave all unanswered
                    self._troubles.note("answers", error)
                else:
                    self._troubles.over("answers")
