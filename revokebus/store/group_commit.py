"""What is asked while an answer is awaited goes together, in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from revokebus.errors import StoreError
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_LONGEST_WAIT = 0.01


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    rows: int
    size: int
    answer: asyncio.Future[Answer]


_Group = list[_Waiting[Item, Answer]]


class GroupCommit(Generic[Item, Answer]):
    """Sends items, those that wait at the same moment in one request; each gets its own answer.

    A lone item is sent at once, and one that fills a request by itself. One that comes while others
    are on their way waits for their answers, until there is a full request, or for 10 ms, whichever
    is first. The caller whose item makes a request full sends it, without waiting for the event
    loop to come round: of thousands at once Redis has the first while the last are being made.

    Args:
        send: Sends some items that may go together and returns an answer for each, by a deadline
            of its own.
        size: Says how many bytes an item takes.
        together: Says of two items whether they may.
        is_single: Whether only one request is on its way at a time, because it blocks the
            connection: the next one waits for its answer, however long.
        most_rows: How many rows a request has at most, unless one item has more.
        most_bytes: How many bytes, likewise.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        size: Callable[[Item], int],
        together: Callable[[Item, Item], bool],
        most_rows: int,
        most_bytes: int,
        is_single: bool = False,
    ) -> None:
        self._send = send
        self._size = size
        self._together = together
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._is_single = is_single
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._rows = self._bytes = 0
        self._on_their_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, item: Item, rows: int) -> Answer:
        """Send an item and return its answer; raise what `send` raises.

        Args:
            item: The item.
            rows: How many rows it is.
        """
        is_lone = not self._on_their_way or rows > self._most_rows
        if is_lone or (size := self._size(item)) > self._most_bytes:
            self._on_their_way += 1
            try:
                return (await self._send([item]))[0]
            finally:
                self._over()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, rows, size, loop.create_future())
        self._wait(waiting)
        if self._rows >= self._most_rows or self._bytes >= self._most_bytes:
            if (own := self._flush(leads=True)) is not None:
                await self._lead(own, waiting)
        elif self._timer is None and not self._is_single:
            self._timer = loop.call_later(_LONGEST_WAIT, self._flush)
        answer: Answer = await waiting.answer
        return answer

    def _wait(self, waiting: _Waiting[Item, Answer]) -> None:
        self._waiting.append(waiting)
        self._rows += waiting.rows
        self._bytes += waiting.size

    def _over(self) -> None:
        self._on_their_way -= 1
        self._flush()

    def _flush(self, *, leads: bool = False) -> _Group[Item, Answer] | None:
        """Send what waits; return a part of it that the caller has to send, if it `leads`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_single and self._on_their_way:
            return None
        led = None
        for group in self._groups():
            if self._is_single and self._on_their_way:
                for each in group:
                    self._wait(each)
                continue
            self._on_their_way += 1
            if leads and led is None:
                led = group
            else:
                self._send_apart(group)
        return led

    def _send_apart(self, group: _Group[Item, Answer]) -> None:
        task = asyncio.create_task(self._send_group(group), name="revokebus-group")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lead(self, group: _Group[Item, Answer], leader: _Waiting[Item, Answer]) -> None:
        try:
            await self._answer(group)
        except asyncio.CancelledError:
            # The caller has gone, the others have not: theirs are sent again.
            leader.answer.cancel()
            if others := [each for each in group if not each.answer.done()]:
                self._send_apart(others)
            else:
                self._over()
            raise
        self._over()

    def _groups(self) -> Iterator[_Group[Item, Answer]]:
        """Yield what waits, in requests."""
        group: _Group[Item, Answer] = []
        rows = size = 0
        waiting, self._waiting = self._waiting, deque()
        self._rows = self._bytes = 0
        for each in waiting:
            if each.answer.done():
                continue  # nobody waits for it any more
            is_full = rows + each.rows > self._most_rows or size + each.size > self._most_bytes
            if group and (is_full or not self._together(group[0].item, each.item)):
                yield group
                group, rows, size = [], 0, 0
            group.append(each)
            rows += each.rows
            size += each.size
        if group:
            yield group

    async def _send_group(self, group: _Group[Item, Answer]) -> None:
        try:
            await self._answer(group)
        finally:
            for each in group:  # where this task is cancelled
                if not each.answer.done():
                    each.answer.set_exception(StoreError("the connections have been closed"))
            self._over()

    async def _answer(self, group: _Group[Item, Answer]) -> None:
        try:
            answers = await self._send([each.item for each in group])
            for each, answer in zip(group, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, each of those who wait gets it
            for each in group:
                if not each.answer.done():
                    each.answer.set_exception(error)

    async def close(self) -> None:
        """End what is on its way; whoever waits is told."""
        await end(set(self._tasks))
