"""One connection for all: nobody gets another's answer, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from revokebus.connection.pipeline import LostConnectionError, Pipeline

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class Line:
    """A connection whose answers come when they are let."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.has_ended = asyncio.Event()
        self.was_sent = asyncio.Semaphore(0)

    async def connect(self) -> None:
        await self.is_open.wait()

    async def send_packed_command(self, packed: bytes, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        assert not check_health
        self.sent.append(packed)
        self.was_sent.release()

    async def read_response(self, *, disconnect_on_error: bool) -> Any:
        assert not disconnect_on_error
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait
        self.has_ended.set()
        self.answers.put_nowait(RedisConnectionError("closed"))


class Network:
    """Makes them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.next = Line()
        self.next_is_opening = asyncio.Event()

    def make(self) -> AbstractConnection:
        self.lines.append(self.next)
        self.next_is_opening.set()
        made, self.next = self.next, Line()
        return cast("AbstractConnection", made)

    def pipeline(self, patience: float = 5.0) -> Pipeline:
        return Pipeline(self.make, deadline=5.0, patience=patience)


@pytest.fixture
def network() -> Network:
    return Network()


async def test_each_gets_its_own_answer_whoever_gives_up(network: Network) -> None:
    """A tick would be given the answer of a write that was given up, and prove the wrong thing."""
    pipeline = network.pipeline()
    tasks = [asyncio.create_task(pipeline.ask(b"%d" % number)) for number in range(6)]
    line = network.next
    for _ in range(6):
        await line.was_sent.acquire()
    for given_up in (0, 2, 5):
        tasks[given_up].cancel()
        await asyncio.wait([tasks[given_up]])
    for number in range(6):
        network.lines[0].answers.put_nowait(number)
    assert [await tasks[number] for number in (1, 3, 4)] == [[1], [3], [4]]
    network.lines[0].answers.put_nowait("next")
    assert await pipeline.ask(b"next") == ["next"]
    await pipeline.close()


async def test_what_is_no_answer_ends_the_connection(network: Network) -> None:
    """One stray line of a proxy would have every request fail until a restart."""
    pipeline = network.pipeline()
    network.next.answers.put_nowait(InvalidResponse("Protocol Error"))
    with pytest.raises(RedisConnectionError):
        await pipeline.ask(b"one")
    network.next.answers.put_nowait("two")
    assert await pipeline.ask(b"two") == ["two"]
    assert network.lines[0].has_ended.is_set()
    await pipeline.close()


async def test_a_connection_that_says_nothing_is_lost(network: Network) -> None:
    """A balancer that has forgotten it would cost each of these requests a 503."""
    pipeline = network.pipeline(patience=0.02)
    network.next.answers.put_nowait("first")
    await pipeline.ask(b"first")
    results = await asyncio.gather(
        *(pipeline.ask(b"%d" % number) for number in range(3)), return_exceptions=True
    )
    assert [type(each) for each in results] == [LostConnectionError] * 3
    network.next.answers.put_nowait("here")
    assert await pipeline.ask(b"again") == ["here"]
    assert pipeline.times_connected == 2
    await pipeline.close()


async def test_the_end_while_it_connects_cancels_nobody(network: Network) -> None:
    """A tick that is taken for cancelled would be the last one: stale until a restart."""
    pipeline = network.pipeline()
    network.next.is_open.clear()
    asking = asyncio.create_task(pipeline.ask(b"one"))
    await network.next_is_opening.wait()
    await pipeline.close()
    with pytest.raises(RedisConnectionError, match="closed"):
        await asking
    with pytest.raises(RedisConnectionError, match="closed"):
        await pipeline.ask(b"two")


async def test_all_who_wait_for_a_connection_share_its_failure(network: Network) -> None:
    """A thousand requests would try a thousand times to connect to a server that is away."""

    class Refused(Line):
        async def connect(self) -> None:
            raise RedisConnectionError("refused")

    network.next = Refused()
    pipeline = network.pipeline()
    results = await asyncio.gather(
        *(pipeline.ask(b"x") for _ in range(100)), return_exceptions=True
    )
    assert {str(each) for each in results} == {"refused"}
    assert len(network.lines) == 1
    await pipeline.close()


async def test_a_connection_that_nobody_uses_is_closed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer would forget it, and swallow what comes on it after a quiet hour."""
    monkeypatch.setattr("revokebus.connection.pipeline._IDLE_SECONDS", 0.0)
    pipeline = network.pipeline(patience=0.02)
    network.next.answers.put_nowait("first")
    line = network.next
    await pipeline.ask(b"first")
    await line.has_ended.wait()
    network.next.answers.put_nowait("second")
    assert await pipeline.ask(b"second") == ["second"]
    await pipeline.close()
