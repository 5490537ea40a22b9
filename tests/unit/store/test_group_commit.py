"""What waits at the same moment goes together, and nobody is given another one's answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from revokebus.store.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """Answers each item with its double, when it is let."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None
        self.was_asked_twice = asyncio.Event()

    async def send(self, items: Sequence[int]) -> list[int]:
        self.requests.append(list(items))
        if len(self.requests) > 1:
            self.was_asked_twice.set()
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [2 * item for item in items]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def group(server: Server) -> GroupCommit[int, int]:
    return GroupCommit(
        server.send,
        size=lambda item: item,
        together=lambda one, other: one % 2 == other % 2,
        most_rows=10,
        most_bytes=1_000,
    )


def asked(group: GroupCommit[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(group.ask(item, 1)) for item in items]


async def test_a_lone_item_does_not_wait(server: Server, group: GroupCommit[int, int]) -> None:
    """Each log-out would take 10 ms longer."""
    server.may_answer.set()
    assert await group.ask(3, 1) == 6
    assert await group.ask(5, 1) == 10
    assert server.requests == [[3], [5]]


async def test_those_that_wait_go_together(server: Server, group: GroupCommit[int, int]) -> None:
    """A thousand log-outs at once would be a thousand requests."""
    tasks = asked(group, 1, 3, 5, 7)
    await asyncio.sleep(0)
    server.may_answer.set()
    assert await asyncio.gather(*tasks) == [2, 6, 10, 14]
    assert server.requests == [[1], [3, 5, 7]]


async def test_a_request_is_bounded(server: Server, group: GroupCommit[int, int]) -> None:
    """One script would hold Redis up, and readers refuse a message of more than a megabyte."""
    rows = asked(group, *[1] * 26)
    large = asked(group, 601, 603, 605)
    server.may_answer.set()
    await asyncio.gather(*rows, *large)
    assert max(map(len, server.requests)) <= 10
    assert max(map(sum, server.requests)) <= 1_000


async def test_what_may_not_go_together_does_not(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """A write that is meant for one data set would be made in another."""
    tasks = asked(group, 1, 2, 3, 4)
    server.may_answer.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert all(len({item % 2 for item in request}) == 1 for request in server.requests)


async def test_an_error_is_everybody_s(server: Server, group: GroupCommit[int, int]) -> None:
    """Some would take for durable what was never written."""
    tasks = asked(group, 1, 3, 5)
    server.error = ConnectionError("gone")
    await asyncio.sleep(0)
    server.may_answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [ConnectionError] * 3


async def test_who_gives_up_takes_nobody_along(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """A client that hangs up would have the log-outs of others fail."""
    tasks = asked(group, 1, 3, 5, 7)
    await asyncio.sleep(0)
    tasks[0].cancel()  # on its way
    tasks[1].cancel()  # waiting
    server.may_answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[2:] == [10, 14]
    assert server.requests == [[1], [5, 7]]


async def test_a_slow_answer_holds_the_next_up_for_a_moment_only(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """At 200 ms from Redis a log-out would wait for two ways there and back."""
    tasks = asked(group, 1, 3)
    async with asyncio.timeout(5):
        await server.was_asked_twice.wait()
    server.may_answer.set()
    assert await asyncio.gather(*tasks) == [2, 6]


async def test_a_full_request_does_not_wait_for_the_others(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """Of thousands of log-outs at once, Redis would get the first when the last has come."""
    tasks = asked(group, *[1] * 25)
    await asyncio.sleep(0)  # each task once: no other has run
    assert [len(request) for request in server.requests] == [1, 10, 10]
    server.may_answer.set()
    assert await asyncio.gather(*tasks) == [2] * 25


async def test_who_sends_for_others_and_gives_up_takes_nobody_along(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """A client that hangs up would have hundreds of log-outs wait for ever."""
    tasks = asked(group, 1, *[3] * 10)
    await asyncio.sleep(0)
    tasks[-1].cancel()  # whose item has made the request full
    await asyncio.sleep(0)
    server.may_answer.set()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:-1] == [2] + [6] * 9
    assert isinstance(results[-1], asyncio.CancelledError)
    assert await group.ask(5, 1) == 10
    assert server.requests == [[1], [3] * 10, [3] * 9, [5]]


async def test_all_who_gave_up_leave_nothing_behind(
    server: Server, group: GroupCommit[int, int]
) -> None:
    """The next log-out would wait for an answer that nobody asks for any more."""
    tasks = asked(group, 1, *[3] * 10)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.may_answer.set()
    assert await group.ask(5, 1) == 10
    assert server.requests == [[1], [3] * 10, [5]]
