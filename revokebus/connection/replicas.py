"""Finds a replica to read from, where Sentinels or a cluster know some.

The one that was found last is kept while it is well, so that a subscription stays where it is. Of
several each instance takes another one, by lot. Where there is none it is the primary: a fleet that
loses its last replica then costs the primary more, and goes on.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from revokebus.connection.client import ask
from revokebus.connection.discovery import Claim, ClusterDiscovery, FixedServer, Found
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from revokebus.connection.discovery import Discovery
    from revokebus.settings.redis_url import Address, RedisUrl

    Known = tuple[Address, Sequence[Address]]
    Look = Callable[[Address], Awaitable[Known]]

_SHARE_OF_DEADLINE = 0.25
_NOT_WELL = frozenset({"s_down", "o_down", "disconnected", "fail", "fail?", "handshake", "noaddr"})


class Replicas:
    """The replicas that are well, as some nodes say that are asked about them.

    Args:
        deadline: Seconds within which the nodes must answer.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._avoided: Address | None = None

    def avoid(self, address: Address | None) -> None:
        """Take another one the next time than that at `address`, if there is any."""
        self._avoided = address

    async def find(self, known: Address | None) -> Found | None:
        """Return a replica, or the primary where there is none; None where it is fixed.

        Args:
            known: The one that was found last.

        Raises:
            redis.RedisError: No node can be asked.
        """
        answers = await self._answers(known)
        # One that was started a moment ago may know of none.
        found = {each for _, replicas in answers for each in replicas}
        avoided, self._avoided = self._avoided, None
        others = found - {avoided} or found or {primary for primary, _ in answers[-1:]}
        chosen = random.choice(sorted(others))  # noqa: S311 - not a secret
        if known is not None and known in others:
            chosen = known
        return Found(Claim(0, chosen), is_agreed=False)

    async def check_whole(self, redis: Redis) -> None:
        """Do nothing: a replica has what its primary has."""

    def _nodes(self, known: Address | None) -> Sequence[Address]:
        raise NotImplementedError

    async def _ask(self, node: Address) -> Known:
        """Return the primary, and its replicas that a node takes for well."""
        raise NotImplementedError

    async def _answers(self, known: Address | None) -> Sequence[Known]:
        """Ask all nodes at once; wait for a majority, or for a while after the first of them."""
        nodes = self._nodes(known)
        waiting = {asyncio.create_task(_tolerant(self._ask, each)) for each in nodes}
        answers: list[Known] = []
        errors: list[Exception] = []
        now = asyncio.get_running_loop().time
        until = now() + self._deadline
        try:
            while waiting and 2 * len(answers) <= len(nodes) and (left := until - now()) > 0:
                done, waiting = await asyncio.wait(
                    waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for result in (task.result() for task in done):
                    if isinstance(result, Exception):
                        errors.append(result)
                    else:
                        until = min(until, now() + _SHARE_OF_DEADLINE * self._deadline)
                        answers.append(result)
        finally:
            await end([*waiting])
        if not answers:
            why = errors[0] if errors else f"no answer within {self._deadline:g} s"
            raise RedisConnectionError(f"no replica can be found: {why}")
        return answers


async def _tolerant(look: Look, node: Address) -> Known | Exception:
    try:
        return await look(node)
    except (RedisError, OSError, LookupError, TypeError, ValueError) as error:
        return error


class SentinelReplicas(Replicas):
    """Asks Sentinels for the replicas of a service.

    Args:
        url: Names the Sentinels and the service.
        deadline: Seconds within which they must answer.
    """

    def __init__(self, url: RedisUrl, deadline: float) -> None:
        super().__init__(deadline)
        self._url = url

    def _nodes(self, known: Address | None) -> Sequence[Address]:  # noqa: ARG002 - Replicas'
        return self._url.nodes

    async def _ask(self, node: Address) -> Known:
        service = self._url.service
        (host, port), listed = await ask(
            self._url.sentinel_options,
            node,
            self._deadline,
            ("SENTINEL GET-MASTER-ADDR-BY-NAME", service),
            ("SENTINEL REPLICAS", service),
        )
        states = [_pairs(each) for each in listed]
        well = [
            (each["ip"], int(each["port"]))
            for each in states
            if not _NOT_WELL & set(each["flags"].split(","))
            and each.get("master-link-status") == "ok"
        ]
        return (str_if_bytes(host), int(port)), well


def _pairs(state: Sequence[Any]) -> Mapping[str, str]:
    texts = [str_if_bytes(each) for each in state]
    return dict(zip(texts[::2], texts[1::2], strict=True))


class ClusterReplicas(Replicas):
    """Asks nodes of a cluster for the replicas of the one that owns the slot of our keys.

    Args:
        discovery: Asks them, and knows which there are.
        deadline: Seconds within which they must answer.
    """

    def __init__(self, discovery: ClusterDiscovery, deadline: float) -> None:
        super().__init__(deadline)
        self._discovery = discovery

    def _nodes(self, known: Address | None) -> Sequence[Address]:
        return self._discovery.some_nodes(known)

    async def _ask(self, node: Address) -> Known:
        return await self._discovery.owner_and_replicas(node)

    async def check_whole(self, redis: Redis) -> None:  # noqa: ARG002 - Discovery's
        """Refuse: a replica does not know whether the slot is being moved from its primary.

        Raises:
            redis.RedisError: Always.
        """
        raise RedisConnectionError("a replica of a cluster cannot be relied upon to list all keys")


def make_replica_discovery(url: RedisUrl, namespace: str, deadline: float) -> Discovery:
    """Return what finds a replica of the server that `url` means; what `url` names, if it is fixed.

    Args:
        url: The URL.
        namespace: The hash tag of all keys.
        deadline: Seconds within which the nodes must answer.
    """
    if url.kind == "sentinel":
        return SentinelReplicas(url, deadline)
    if url.kind == "cluster":
        return ClusterReplicas(ClusterDiscovery(url, f"{{{namespace}}}", deadline), deadline)
    return FixedServer()


async def say_read_only(connection: AbstractConnection) -> None:
    """Set up a connection on which a replica of a cluster answers by itself.

    Raises:
        redis.RedisError: It does not answer, or refuses.
    """
    await connection.on_connect()
    await connection.send_command("READONLY")
    await connection.read_response()
