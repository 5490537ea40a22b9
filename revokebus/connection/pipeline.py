"""One connection that carries many questions at a time, each answered in its turn.

There is no task that reads. Of those who wait, one reads for all until its own answer has come,
and then hands on to the next: a lone question costs no more than a connection of its own would.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from revokebus.tasks import end, retrieve

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

_IDLE_SECONDS = 15.0
_LOOKS_PER_PATIENCE, _LATE, _SHORTEST_LOOK = 2, 0.02, 0.001


class LostConnectionError(RedisConnectionError):
    """A connection that had answered before is gone, and with it the answers to some questions.

    A balancer or a firewall may have forgotten it. On a new one the question may be asked again at
    once, if it does no harm to ask it twice.
    """


class _Question:
    """A question that was sent.

    Attributes:
        count: How many answers it gets.
        sent_at: When, by the loop's clock.
        answers: Those that have come.
        error: Why none will come any more.
        turn: Is over when all have come, or it is this one's turn to read; None for who reads.
        is_abandoned: Whether nobody waits for it any more. Its answers come all the same.
    """

    __slots__ = ("answers", "count", "error", "is_abandoned", "sent_at", "turn")

    def __init__(self, count: int, sent_at: float) -> None:
        self.count = count
        self.sent_at = sent_at
        self.answers: list[Any] = []
        self.error: RedisConnectionError | None = None
        self.turn: asyncio.Future[None] | None = None
        self.is_abandoned = False

    @property
    def is_over(self) -> bool:
        return self.error is not None or len(self.answers) == self.count

    def wake(self) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)


class Pipeline:
    """Asks over one connection, which it makes when there is something to ask.

    A connection that has failed is thrown away, and so is one that was not used for some time:
    others may have forgotten it. A question that was given up leaves its answer to be skipped.

    Args:
        make: Makes a connection, and does not connect it.
        deadline: Seconds for a new connection to be ready.
        patience: Seconds without any answer after which the connection counts as lost.

    Attributes:
        times_connected: How many connections were made.
    """

    def __init__(
        self, make: Callable[[], AbstractConnection], *, deadline: float, patience: float
    ) -> None:
        self._make = make
        self._deadline = deadline
        self._patience = patience
        self._connection: AbstractConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Question] = deque()
        self._next_to_read: deque[_Question] = deque()
        self._reads: _Question | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._read_since = 0.0
        self._look_at = 0.0
        self._is_proven = False
        self._is_closed = False
        self.times_connected = 0

    async def ask(self, packed: bytes, count: int = 1) -> list[Any]:
        """Send what is packed and return the answers, errors of Redis among them.

        Args:
            packed: One or several commands.
            count: How many.

        Raises:
            LostConnectionError: The connection has answered before, and is gone.
            redis.ConnectionError: There is none.
        """
        connection = self._connection
        if connection is None:
            connection = await self._connected()
        loop = asyncio.get_running_loop()
        question = _Question(count, loop.time())
        self._waiting.append(question)
        try:
            await self._send(connection, packed)
            if self._reads is not None and not question.is_over:
                question.turn = loop.create_future()
                self._next_to_read.append(question)
                await question.turn
            if not question.is_over:
                await self._read(connection, question)
        finally:
            question.is_abandoned = True
            if self._reads is question:
                self._hand_on()
        if question.error is not None:
            raise type(question.error)(*question.error.args)
        return question.answers

    async def _send(self, connection: AbstractConnection, packed: bytes) -> None:
        try:
            await connection.send_packed_command(packed, check_health=False)
        except RedisConnectionError as error:
            self._lose(connection, error)
        except BaseException:
            # A part may have been sent: redis-py has ended the connection.
            self._lose(connection, RedisConnectionError("a request was given up half-way"))
            raise

    async def _read(self, connection: AbstractConnection, question: _Question) -> None:
        """Read, for all, until `question` is over."""
        if self._reads is not question:
            self._reads, self._read_since = question, asyncio.get_running_loop().time()
        while not question.is_over:
            try:
                answer = await connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                answer = error
            except Exception as error:  # noqa: BLE001 - the stream cannot be read any further
                self._lose(connection, error)
                return
            if self._connection is not connection:
                return
            if not self._waiting:
                self._lose(connection, RedisConnectionError("an answer that nobody asked for"))
                return
            self._take(answer)

    def _take(self, answer: Any) -> None:
        self._is_proven = True
        self._heard_at = asyncio.get_running_loop().time()
        question = self._waiting[0]
        question.answers.append(answer)
        if question.is_over:
            self._waiting.popleft()
            question.wake()

    def _hand_on(self) -> None:
        self._reads = None
        while self._next_to_read:
            question = self._next_to_read.popleft()
            if not question.is_over and not question.is_abandoned:
                self._reads = question
                question.wake()
                return

    async def _connected(self) -> AbstractConnection:
        while self._connection is None:
            if self._is_closed:
                raise RedisConnectionError("the connections have been closed")
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="revokebus-connect")
                self._opening.add_done_callback(retrieve)
            opening = self._opening
            await asyncio.wait([opening])  # all who wait share the outcome
            if opening.cancelled():
                raise RedisConnectionError("the connections have been closed")
            opening.result()
        return self._connection

    async def _open(self) -> None:
        connection = self._make()
        try:
            async with asyncio.timeout(self._deadline):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(f"no connection within {self._deadline:g} s") from None
        except BaseException:
            # redis-py leaves the socket open where a handshake fails or is cancelled.
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._opening = None
        self._connection = connection
        self._is_proven = False
        self.times_connected += 1
        self._heard_at = asyncio.get_running_loop().time()
        if self._timer is None:
            self._look_after(self._patience / _LOOKS_PER_PATIENCE)

    def _look(self) -> None:
        """Give up a connection that does not answer, or that nobody needs."""
        self._timer = None
        connection = self._connection
        if connection is None:
            return
        loop, pause = asyncio.get_running_loop(), self._patience / _LOOKS_PER_PATIENCE
        if loop.time() > self._look_at + _LATE:
            pass  # the loop was held up: answers may be here that nobody could read
        elif self._waiting:
            # While nobody reads, answers lie about unread.
            since = max(self._waiting[0].sent_at, self._heard_at, self._read_since)
            silence = loop.time() - since if self._reads is not None else 0.0
            # Of one that has never answered, no balancer can have forgotten anything.
            if silence >= (self._patience if self._is_proven else self._deadline):
                self._lose(connection, RedisConnectionError(f"no answer for {silence:.1f} s"))
                return
            pause = min(pause, max(self._patience - silence, _SHORTEST_LOOK))
        elif loop.time() - self._heard_at >= _IDLE_SECONDS:
            self._lose(connection, RedisConnectionError("not used for some time"))
            return
        self._look_after(pause)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._look_at = loop.time() + seconds
        self._timer = loop.call_at(self._look_at, self._look)

    def _lose(self, connection: AbstractConnection, error: Exception) -> None:
        if self._connection is not connection:
            return
        self._connection = self._reads = None
        # What Redis says of itself while it loads is no loss.
        is_lost = self._is_proven and type(error) in (RedisConnectionError, OSError)
        kind = LostConnectionError if is_lost else RedisConnectionError
        waiting, self._waiting = self._waiting, deque()
        for question in waiting:
            question.error = kind(str(error))
            question.wake()
        self._next_to_read.clear()
        ending = asyncio.create_task(connection.disconnect(nowait=True), name="revokebus-end")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the connection; whoever waits is told."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._opening is not None:
            await end([self._opening])
        if self._connection is not None:
            self._lose(self._connection, RedisConnectionError("the connections have been closed"))
        if self._ending:
            await asyncio.wait(set(self._ending))
