"""One connection that carries many questions at a time, each answered in its turn.

There is no task that reads. Of those who wait, one reads for all until its own answer has come,
and then hands on to the next: a lone question costs no more than a connection of its own would.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from revokebus.connection.loss import noticing_loss
from revokebus.tasks import end, retrieve

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

_IDLE_SECONDS = 15.0
_LOOKS_PER_PATIENCE, _LATE, _SHORTEST_LOOK = 2, 0.02, 0.001
_LONGEST_TRY = 4
_FORGOTTEN, _SLOWER = 0.9, 2.0
_PING = b"*1\r\n$4\r\nPING\r\n"


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
    others may have forgotten it. One that is silent is kept until another one is answered: a server
    that is slow would only become slower by what is asked again, because it still does what was
    asked before. A question that was given up leaves its answer to be skipped.

    Args:
        make: Makes a connection, and does not connect it.
        deadline: Seconds for a new connection to be ready.
        patience: Seconds without any answer after which another connection is tried.
        longest: The same, at most, where answers have been slow lately.
        spread: Seconds within which another connection is then tried, by lot: those of a fleet
            would all come at once.

    Attributes:
        times_connected: How many connections were made.
        server: Which process is at the other end, as whoever asks has found out; empty on a new
            connection.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        *,
        deadline: float,
        patience: float,
        longest: float,
        spread: float,
    ) -> None:
        self._make = make
        self._deadline = deadline
        self._patience = patience
        self._longest = longest
        self._spread = spread
        self._connection: AbstractConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None
        self._failed_tries = 0
        self._slowest = self._silent = 0.0
        self._reading: asyncio.Timeout | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._given_up: set[asyncio.Task[None]] = set()
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
        self.server = ""

    async def connect(self) -> None:
        """Make the connection, if there is none.

        Raises:
            redis.ConnectionError: It cannot be made.
        """
        if self._connection is None:
            await self._connected()

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
            with noticing_loss():
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
        reading = asyncio.timeout(None)
        try:
            async with reading:
                self._reading = reading
                await self._read_until(connection, question)
        except TimeoutError:
            pass  # it is lost, and the question knows
        finally:
            if self._reading is reading:
                self._reading = None

    async def _read_until(self, connection: AbstractConnection, question: _Question) -> None:
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
        self._failed_tries = 0
        self._heard_at = asyncio.get_running_loop().time()
        self._silent = 0.0
        self._stop_trying()
        question = self._waiting[0]
        question.answers.append(answer)
        if question.is_over:
            if self._heard_at <= self._look_at + _LATE:  # this process ran meanwhile
                took = self._heard_at - question.sent_at
                self._slowest = max(_FORGOTTEN * self._slowest, took)
            self._waiting.popleft()
            question.wake()

    def _hand_on(self) -> None:
        self._silent += self._silence()
        self._reads = None
        while self._next_to_read:
            question = self._next_to_read.popleft()
            if not question.is_over and not question.is_abandoned:
                self._reads, self._read_since = question, asyncio.get_running_loop().time()
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
                with noticing_loss():
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
        self._use(connection)

    def _use(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._is_proven = False
        self._slowest = 0.0
        self.times_connected += 1
        self.server = ""
        self._heard_at = asyncio.get_running_loop().time()
        if self._timer is None:
            self._look_after(self._patience / _LOOKS_PER_PATIENCE)

    async def _try_another(self, silent: AbstractConnection) -> None:
        """Take another connection in place of one that is silent, if that one is answered."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(random.uniform(0, self._spread))  # noqa: S311 - not a secret
        connection, since = self._make(), self._heard_at
        try:
            async with asyncio.timeout(self._deadline):
                with noticing_loss():
                    await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
                    # The system may have taken the connection for a server that does not run.
                    await connection.send_packed_command(_PING, check_health=False)
                with contextlib.suppress(ResponseError):  # it runs
                    await connection.read_response(disconnect_on_error=False)
        except (RedisError, OSError):  # TimeoutError is one
            await connection.disconnect(nowait=True)
            self._failed_tries += 1
            await asyncio.sleep(self._deadline * min(self._failed_tries, _LONGEST_TRY))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        else:
            if self._connection is silent and self._heard_at == since:
                silence = max(loop.time() - since, self._slowest)
                self._lose(silent, RedisConnectionError(f"no answer for {silence:.1f} s"))
                self._use(connection)
                # An answer may have been on its way, slowly: the next one is given more time.
                self._is_proven, self._slowest = True, silence
            else:
                await connection.disconnect(nowait=True)
        finally:
            if self._trying is asyncio.current_task():
                self._trying = None

    def _stop_trying(self) -> None:
        trying, self._trying = self._trying, None
        if trying is not None and trying is not asyncio.current_task():
            trying.cancel()
            self._given_up.add(trying)
            trying.add_done_callback(self._given_up.discard)

    def _look(self) -> None:
        """Give up a connection that does not answer, or that nobody needs."""
        self._timer = None
        connection = self._connection
        if connection is None:
            return
        loop, pause = asyncio.get_running_loop(), self._patience / _LOOKS_PER_PATIENCE
        if loop.time() > self._look_at + _LATE:
            pause = _LATE  # the loop was held up: answers may be here that nobody could read
        elif self._waiting:
            # While nobody reads, answers lie about unread.
            silence = self._silent + self._silence()
            # Of one that has never answered, no balancer can have forgotten anything.
            patience = self._patience if self._is_proven else self._deadline
            # One that has been slow lately is not lost because it still is.
            patience = max(patience, min(_SLOWER * self._slowest, self._longest))
            if silence >= patience:
                if self._trying is None:
                    trying = self._try_another(connection)
                    self._trying = asyncio.create_task(trying, name="revokebus-try-another")
                    self._trying.add_done_callback(retrieve)
            else:
                pause = min(pause, max(patience - silence, _SHORTEST_LOOK))
        elif loop.time() - self._heard_at >= _IDLE_SECONDS:
            self._lose(connection, RedisConnectionError("not used for some time"))
            return
        self._look_after(pause)

    def _silence(self) -> float:
        """Return for how many seconds who reads now has read in vain."""
        if self._reads is None or not self._waiting:
            return 0.0
        since = max(self._waiting[0].sent_at, self._heard_at, self._read_since)
        return max(0.0, asyncio.get_running_loop().time() - since)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._look_at = loop.time() + seconds
        self._timer = loop.call_at(self._look_at, self._look)

    def _lose(self, connection: AbstractConnection, error: Exception) -> None:
        if self._connection is not connection:
            return
        self._stop_trying()
        self._connection = self._reads = None
        self._silent = 0.0
        # Over TLS a connection that is closed waits for its peer to agree, which may be gone.
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.reschedule(asyncio.get_running_loop().time())
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
        making = (self._opening, self._trying, *self._given_up)
        await end([each for each in making if each is not None])
        if self._connection is not None:
            self._lose(self._connection, RedisConnectionError("the connections have been closed"))
        if self._ending:
            await asyncio.wait(set(self._ending))
