from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from revokebus.connection.discovery import Claim, Found, _newest

if TYPE_CHECKING:
    from revokebus.settings.redis_url import Address

OLD, NEW = Claim(3, ("old", 1)), Claim(4, ("new", 1))
NODES = [("a", 1), ("b", 1), ("c", 1)]


class Nodes:
    """Nodes that answer as they are told to, or not at all."""

    def __init__(self, *answers: Claim | Exception | None) -> None:
        self.answers = dict(zip(NODES, answers, strict=True))
        self.cancelled = 0

    async def ask(self, node: Address) -> Claim:
        answer = self.answers[node]
        if isinstance(answer, Claim):
            return answer
        if answer is not None:
            raise answer
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def newest(self, deadline: float = 60.0) -> Address:
        return (await self.found(deadline)).claim.address

    async def found(self, deadline: float = 60.0) -> Found:
        async with asyncio.timeout(5):
            return await _newest(NODES, self.ask, deadline, "node")


async def test_the_newest_configuration_counts() -> None:
    """A Sentinel that was cut off would send the fleet back to a deposed primary."""
    assert await Nodes(OLD, NEW, RedisConnectionError()).newest() == NEW.address
    assert await Nodes(NEW, RedisConnectionError(), OLD).newest() == NEW.address


async def test_a_frozen_node_does_not_delay_the_majority() -> None:
    """One host that hangs would cost each look-up its whole deadline."""
    nodes = Nodes(None, OLD, NEW)
    assert await nodes.newest() == NEW.address
    assert nodes.cancelled == 1


async def test_a_minority_is_believed_where_no_more_answer() -> None:
    """The loss of two of three Sentinels would be an outage of everything."""
    assert await Nodes(None, RedisConnectionError(), OLD).newest(0.05) == OLD.address


async def test_what_a_node_says_is_told_before_what_cannot_be_reached() -> None:
    """A misspelt service would look like a broken network."""
    nodes = Nodes(RedisConnectionError("gone"), ResponseError("No such master"), None)
    with pytest.raises(RedisConnectionError, match="no node can be asked: No such master"):
        await nodes.newest(0.05)


async def test_silence_is_an_error_within_the_deadline() -> None:
    """A start would hang for ever."""
    nodes = Nodes(None, None, None)
    with pytest.raises(RedisConnectionError, match=r"no answer within 0\.05 s"):
        await nodes.newest(0.05)
    assert nodes.cancelled == 3


ONE, TWO, THREE = (replace(NEW, voter=name, voters=3) for name in "abc")


@pytest.mark.parametrize(
    ("answers", "is_agreed"),
    [
        ((ONE, TWO, None), True),
        ((ONE, RedisConnectionError(), THREE), True),
        ((ONE, RedisConnectionError(), RedisConnectionError()), False),
        ((ONE, ONE, RedisConnectionError()), False),  # one, asked under two addresses
        ((ONE, replace(TWO, epoch=3), RedisConnectionError()), False),
        ((ONE, replace(TWO, address=OLD.address), RedisConnectionError()), False),
        ((ONE, replace(TWO, voter=""), RedisConnectionError()), False),
        ((ONE, replace(TWO, voters=5), RedisConnectionError()), False),
        ((replace(ONE, voters=1), RedisConnectionError(), RedisConnectionError()), False),
        ((NEW, NEW, NEW), False),
    ],
)
async def test_more_than_half_of_the_voters_must_agree(
    answers: tuple[Claim | Exception | None, ...],
    is_agreed: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    """A few nodes that are cut off with a former primary would be enough to believe it."""
    assert (await Nodes(*answers).found()).is_agreed is is_agreed
