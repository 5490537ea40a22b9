"""One connection for all: nobody gets another's answer, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import random
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
        return Pipeline(
            self.make, deadline=5.0, patience=patience, longest=20.0, spread=patience / 4
        )


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


async def test_a_connection_that_says_nothing_is_lost_where_another_is_answered(
    network: Network,
) -> None:
    """A balancer that has forgotten it would cost each of these requests a 503."""
    pipeline = network.pipeline(patience=0.02)
    network.next.answers.put_nowait("first")
    await pipeline.ask(b"first")
    pipeline.server = "one"
    network.next.answers.put_nowait(b"PONG")
    results = await asyncio.gather(
        *(pipeline.ask(b"%d" % number) for number in range(3)), return_exceptions=True
    )
    assert [type(each) for each in results] == [LostConnectionError] * 3
    assert network.lines[0].has_ended.is_set()
    assert network.lines[1].sent == [b"*1\r\n$4\r\nPING\r\n"]
    assert pipeline.server == ""  # it may be another one
    network.lines[1].answers.put_nowait("here")
    assert await pipeline.ask(b"again") == ["here"]
    assert pipeline.times_connected == 2
    await pipeline.close()


async def test_what_is_late_is_kept_as_long_as_no_other_connection_is_answered(
    network: Network,
) -> None:
    """A server that is slow would be made slower: what was asked before it still does."""
    pipeline = network.pipeline(patience=0.02)
    network.next.answers.put_nowait("first")
    await pipeline.ask(b"first")
    asking = asyncio.create_task(pipeline.ask(b"slow"))
    while len(network.lines) == 1:
        await network.next_is_opening.wait()
        network.next_is_opening.clear()
    await network.lines[1].was_sent.acquire()
    network.lines[0].answers.put_nowait("late")
    assert await asking == ["late"]
    await network.lines[1].has_ended.wait()
    network.lines[0].answers.put_nowait("next")
    assert await pipeline.ask(b"next") == ["next"]
    assert pipeline.times_connected == 1
    await pipeline.close()


async def answered(network: Network, pipeline: Pipeline) -> None:
    """Have the connection answer once, so that it counts as one that works."""
    network.next.answers.put_nowait("first")
    await pipeline.ask(b"first")


async def until_tried(network: Network, count: int) -> Line:
    """Return the connection of that number, once a PING was sent on it."""
    while len(network.lines) < count:
        await network.next_is_opening.wait()
        network.next_is_opening.clear()
    line = network.lines[count - 1]
    await line.was_sent.acquire()
    return line


async def test_a_stall_does_not_end_the_watch_over_later_connections(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month after a short stall, a connection that a firewall forgot would stay for minutes."""
    pipeline = network.pipeline(patience=0.02)
    await answered(network, pipeline)
    is_about_to_try = asyncio.Event()

    def uniform(_least: float, most: float) -> float:
        is_about_to_try.set()
        return most

    monkeypatch.setattr(random, "uniform", uniform)
    asking = asyncio.create_task(pipeline.ask(b"slow"))
    await is_about_to_try.wait()
    network.lines[0].answers.put_nowait("late")
    assert await asking == ["late"]
    lost = asyncio.create_task(pipeline.ask(b"lost"))
    (await until_tried(network, 2)).answers.put_nowait("PONG")
    with pytest.raises(LostConnectionError):
        await lost
    await pipeline.close()


async def test_one_that_was_slow_is_given_more_time_but_not_for_ever(network: Network) -> None:
    """A slow server would get another connection for each answer; or a dead one would be kept."""
    pipeline = Pipeline(network.make, deadline=5.0, patience=0.01, longest=0.1, spread=0.0)
    await answered(network, pipeline)
    pipeline._slowest = 60.0  # as after a suspension
    loop = asyncio.get_running_loop()
    began = loop.time()
    lost = asyncio.create_task(pipeline.ask(b"lost"))
    (await until_tried(network, 2)).answers.put_nowait("PONG")
    assert loop.time() - began >= 0.09
    with pytest.raises(LostConnectionError):
        await lost
    await pipeline.close()


async def test_silence_is_counted_over_all_who_read(network: Network) -> None:
    """Where each gives up before the patience is over, a dead connection would be kept."""
    pipeline = network.pipeline(patience=0.05)
    await answered(network, pipeline)
    while len(network.lines) == 1:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await pipeline.ask(b"lost")
    await pipeline.close()


async def test_silence_is_not_counted_twice(network: Network) -> None:
    """A slow server would lose its connections the sooner, the more requests give up."""
    pipeline = network.pipeline(patience=60.0)
    await answered(network, pipeline)
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = [asyncio.create_task(pipeline.ask(b"slow")) for _ in range(8)]
    for each in asking:
        await network.lines[0].was_sent.acquire()
        assert pipeline._silent + pipeline._silence() <= loop.time() - began
        each.cancel()
        await asyncio.wait([each])
        await asyncio.sleep(0.01)
    await pipeline.close()


async def test_a_connection_that_does_not_end_keeps_nobody(network: Network) -> None:
    """Over TLS a request would wait for half a minute, until a dead peer agrees to the end."""

    class Endless(Line):
        async def disconnect(self, *, nowait: bool) -> None:
            assert nowait
            self.has_ended.set()  # and nothing is read

    network.next = Endless()
    pipeline = network.pipeline(patience=0.02)
    await answered(network, pipeline)
    lost = asyncio.create_task(pipeline.ask(b"lost"))
    (await until_tried(network, 2)).answers.put_nowait("PONG")
    with pytest.raises(LostConnectionError):
        await lost
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
