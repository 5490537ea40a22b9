"""Finds the server to write to: it is fixed, or Sentinel knows it, or the cluster does.

All nodes are asked at once and the answer of the greatest configuration epoch counts, which is
the rule by which Sentinels and cluster nodes settle it among themselves. A node that is frozen,
or cut off from the others with an old view, then neither delays the answer nor decides it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.utils import str_if_bytes

from revokebus.connection.client import ask
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from revokebus.settings.redis_url import Address, RedisUrl

    Ask = Callable[[Address], Awaitable["Claim"]]
    Configuration: TypeAlias = tuple[int, Address]


_MOST_ASKED, _VOTERS_ASKED = 5, 3
_FEWEST_VOTERS = 3
_NOT_WELL = frozenset({"s_down", "o_down", "failover_in_progress", "fail", "fail?", "handshake"})
_SHARE_OF_DEADLINE = 0.25


@dataclass(frozen=True, slots=True)
class Claim:
    """Which server one node takes for the one to write to.

    Attributes:
        epoch: The configuration epoch of that server; the greatest is right.
        address: The server.
        nodes: Those that the node knows and that can be asked the next time.
        voter: The id of this node, if it is one of those that elect the primary, and does not
            doubt it; else empty. It may be asked under several addresses.
        voters: How many of them this node knows.
    """

    epoch: int
    address: Address
    nodes: Sequence[Address] = ()
    voter: str = ""
    voters: int = 0

    @property
    def configuration(self) -> Configuration:
        """Which server is the primary, since which election."""
        return self.epoch, self.address


@dataclass(frozen=True, slots=True)
class Found:
    """The server to write to.

    Attributes:
        claim: What the newest configuration says.
        is_agreed: Whether more than half of all voters, of at least three, have named it.
    """

    claim: Claim
    is_agreed: bool


class Discovery(Protocol):
    """Finds the server to write to."""

    async def find(self, known: Address | None) -> Found | None:
        """Return the server; None where it is fixed.

        Args:
            known: The server that was found last.

        Raises:
            redis.RedisError: It cannot be found.
        """

    async def check_whole(self, redis: Redis) -> None:
        """Check that the server has all our keys, so that a walk over them finds each.

        Raises:
            redis.RedisError: Some of them are elsewhere, or on their way.
        """

    def avoid(self, address: Address | None) -> None:
        """Find another server the next time than that at `address`, if any other will do."""


def make_discovery(url: RedisUrl, namespace: str, deadline: float) -> Discovery:
    """Return what finds the server that `url` means.

    Args:
        url: The URL.
        namespace: The hash tag of all keys.
        deadline: Seconds within which the nodes must answer.
    """
    if url.kind == "sentinel":
        return SentinelDiscovery(url, deadline)
    if url.kind == "cluster":
        return ClusterDiscovery(url, f"{{{namespace}}}", deadline)
    return FixedServer()


class FixedServer:
    """The URL names the server."""

    async def find(self, known: Address | None) -> Found | None:  # noqa: ARG002 - Discovery's
        """Return None: there is nothing to find."""
        return None

    async def check_whole(self, redis: Redis) -> None:
        """Do nothing: one server has everything."""

    def avoid(self, address: Address | None) -> None:
        """Do nothing: no other will do."""


class SentinelDiscovery:
    """Asks Sentinels who is primary.

    Args:
        url: Names the Sentinels and the service.
        deadline: Seconds within which they must answer.
    """

    def __init__(self, url: RedisUrl, deadline: float) -> None:
        self._url = url
        self._deadline = deadline
        self._may_ask_for_id = True
        self._voters = len(url.nodes)

    async def find(self, known: Address | None) -> Found | None:  # noqa: ARG002 - Discovery's
        """Return the primary of the service, as the newest configuration has it."""
        what = f"Sentinel about the service {self._url.service!r} of redis_url"
        return await _newest(self._url.nodes, self._ask, self._deadline, what)

    async def _ask(self, node: Address) -> Claim:
        state, address, name = await self._view(node)
        host, port = address
        # One that was started a moment ago does not know the others yet.
        self._voters = max(self._voters, 1 + int(state["num-other-sentinels"]))
        server = str_if_bytes(host), int(port)
        voter = "" if _NOT_WELL & set(_flags(state)) else str_if_bytes(name)
        return Claim(int(state["config-epoch"]), server, voter=voter, voters=self._voters)

    async def _view(self, node: Address) -> Sequence[Any]:
        """Return what a Sentinel knows of the primary, and its own id, empty if it does not say."""
        service = self._url.service
        # While a failover is under way, the former tells the new epoch with the old address; and
        # in this order an address is never older than its epoch.
        questions = (
            ("SENTINEL MASTER", service),
            ("SENTINEL GET-MASTER-ADDR-BY-NAME", service),
        )
        options = self._url.sentinel_options
        if self._may_ask_for_id:
            with contextlib.suppress(ResponseError):
                return await ask(options, node, self._deadline, *questions, ("SENTINEL MYID",))
        answers = await ask(options, node, self._deadline, *questions)
        self._may_ask_for_id = False
        return [*answers, ""]

    async def check_whole(self, redis: Redis) -> None:
        """Do nothing: one server has everything."""

    def avoid(self, address: Address | None) -> None:
        """Do nothing: no other will do."""


class ClusterDiscovery:
    """Asks nodes of a cluster who owns the slot that all our keys are in.

    Args:
        url: Names some nodes; the others are learnt from them.
        tag: The hash tag of the keys.
        deadline: Seconds within which nodes must answer.
    """

    def __init__(self, url: RedisUrl, tag: str, deadline: float) -> None:
        self._url = url
        self._slot = key_slot(tag.encode())
        self._deadline = deadline
        self._learnt: Sequence[Address] = ()
        self._may_ask_for_names = True

    async def find(self, known: Address | None) -> Found | None:
        """Return the primary that owns the slot, as the newest configuration has it."""
        what = "node of the cluster that redis_url names"
        found = await _newest(self.some_nodes(known), self._ask, self._deadline, what)
        self._learnt = found.claim.nodes
        return found

    def some_nodes(self, known: Address | None) -> list[Address]:
        """Return the known server and some others: a large cluster need not be asked as a whole.

        Some voters are among them, which a node names first.

        Args:
            known: The server that was found last.
        """
        first = {*self._learnt[:_VOTERS_ASKED]} - {known}
        others = {*self._url.nodes, *self._learnt} - {known, *first}
        count = min(len(others), _MOST_ASKED - len(first))
        some = [*first, *random.sample(sorted(others), count)]
        return [known, *some] if known else some

    async def _ask(self, node: Address) -> Claim:
        view, names = await self._views(node)
        voters = [each for each in view.values() if _votes(each)]
        # In another order each time, the voters that can be asked first.
        shuffled = random.sample([*view.items()], len(view))
        shuffled.sort(key=lambda item: not _votes(item[1]) or bool(_NOT_WELL & {*_flags(item[1])}))
        nodes = [a for name, each in shuffled if (a := self._address(name, each, node, names))]
        voter = next((each["node_id"] for each in voters if "myself" in _flags(each)), "")
        claims = [
            Claim(
                int(each["epoch"]),
                address,
                nodes,
                voter="" if _NOT_WELL & {*_flags(each)} else voter,
                voters=len(voters),
            )
            for name, each in view.items()
            if (address := self._address(name, each, node, names)) and _owns(each, self._slot)
        ]
        if not claims:
            raise RedisConnectionError(f"no node owns the slot {self._slot}")
        return max(claims, key=lambda claim: claim.epoch)

    async def owner_and_replicas(self, node: Address) -> tuple[Address, Sequence[Address]]:
        """Return who owns the slot, and its replicas that are well, as `node` knows them.

        Raises:
            redis.RedisError: It cannot be asked, or knows no owner.
        """
        view, names = await self._views(node)
        known = {
            each["node_id"]: address
            for name, each in view.items()
            if (address := self._address(name, each, node, names))
            and not _NOT_WELL & {*_flags(each)}
        }
        owners = [each for each in view.values() if _owns(each, self._slot)]
        owner = max(owners, key=lambda each: int(each["epoch"]), default=None)
        if owner is None or owner["node_id"] not in known:
            raise RedisConnectionError(f"no node owns the slot {self._slot}")
        replicas = [
            known[each["node_id"]]
            for each in view.values()
            if each["master_id"] == owner["node_id"] and each["node_id"] in known
        ]
        return known[owner["node_id"]], replicas

    async def _views(self, node: Address) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Return what a node knows of the others, and the name by which each wants to be called.

        Their addresses need not be reachable from here (``cluster-preferred-endpoint-type``), and
        MOVED has the names as well. A user who may not ask for them goes by the addresses.
        """
        if self._may_ask_for_names:
            try:
                view, slots = await ask(
                    self._url.options, node, self._deadline, ("CLUSTER NODES",), ("CLUSTER SLOTS",)
                )
            except ResponseError:
                self._may_ask_for_names = False
            else:
                return view, _names(slots)
        (view,) = await ask(self._url.options, node, self._deadline, ("CLUSTER NODES",))
        return view, {}

    def _address(
        self, name: str, node: Mapping[str, Any], asked: Address, names: Mapping[str, str]
    ) -> Address | None:
        if "noaddr" in node["flags"]:
            return None
        host, _, port = name.rpartition(":")
        host = names.get(node["node_id"], host)
        if "ssl" in str(self._url.options.get("connection_class", "")).lower():
            host = node["hostname"] or host  # the name that the certificate is for
        return (host.strip("[]") or asked[0], int(port))  # a node may not know its own address

    async def check_whole(self, redis: Redis) -> None:
        """Check that the slot is this server's and that it is not being moved."""
        view = await redis.execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        (myself,) = [each for each in view.values() if "myself" in each["flags"]]
        moving = any(int(each["slot"]) == self._slot for each in myself["migrations"])
        if moving or not _owns(myself, self._slot):
            raise RedisConnectionError(
                f"the slot {self._slot} is being moved to another node, so the revocations cannot "
                "be listed until that is done"
            )

    def avoid(self, address: Address | None) -> None:
        """Do nothing: no other will do."""


def _names(slots: Sequence[Any]) -> Mapping[str, str]:
    """Return the preferred name of each node by its id, as ``CLUSTER SLOTS`` has it.

    Nothing, or a question mark, means that a node does not know how it is reached.
    """
    found = {}
    for _, _, *nodes in slots:
        for host, _, node_id, *_ in nodes:
            name = str_if_bytes(host or "")
            found[str_if_bytes(node_id)] = "" if name == "?" else name
    return found


def _flags(node: Mapping[str, Any]) -> Sequence[str]:
    flags: str = node["flags"]
    return flags.split(",")


def _votes(node: Mapping[str, Any]) -> bool:
    """Return whether a node of a cluster has a vote: a primary that has slots."""
    return "master" in _flags(node) and bool(node["slots"])


def _owns(node: Mapping[str, Any], slot: int) -> bool:
    return any(int(span[0]) <= slot <= int(span[-1]) for span in node["slots"])


async def _newest(nodes: Sequence[Address], question: Ask, deadline: float, what: str) -> Found:
    """Ask all `nodes` at once; wait for a majority, or for a while after the first of them.

    One that is frozen, or cut off, then costs little; and where all are far away they are heard.
    Where the majority does not agree, the others are waited for as long again.
    """
    waiting = [asyncio.create_task(_tolerant(question, node)) for node in nodes]
    claims: list[Claim] = []
    errors: list[Exception] = []
    now = asyncio.get_running_loop().time
    began, until = now(), now() + deadline
    has_most = False
    try:
        while waiting and not _agreed(claims) and (left := until - now()) > 0:
            done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            waiting = [task for task in waiting if task not in done]
            for result in (task.result() for task in done):
                if isinstance(result, Claim):
                    until = until if claims else min(until, now() + _SHARE_OF_DEADLINE * deadline)
                    claims.append(result)
                else:
                    errors.append(result)
            if not has_most and 2 * len(claims) > len(nodes):
                has_most, until = True, min(until, now() + (now() - began))
    finally:
        await end(waiting)
    if not claims:
        why = _first(errors) or f"no answer within {deadline:g} s"
        raise RedisConnectionError(f"no {what} can be asked: {why}")
    return Found(max(claims, key=lambda claim: claim.epoch), is_agreed=_agreed(claims))


def _agreed(claims: Sequence[Claim]) -> bool:
    """Return whether more than half of all voters name the newest configuration."""
    newest = max(claims, key=lambda claim: claim.epoch, default=None)
    if newest is None:
        return False
    named = {each.voter for each in claims if each.configuration == newest.configuration} - {""}
    return 2 * len(named) > max(_FEWEST_VOTERS, *(claim.voters for claim in claims))


async def _tolerant(question: Ask, node: Address) -> Claim | Exception:
    try:
        return await question(node)
    except (RedisError, OSError, LookupError, TypeError, ValueError) as error:
        return error


def _first(errors: Iterable[Exception]) -> str:
    # What a node says tells more than that another cannot be reached.
    ordered = sorted(errors, key=lambda error: not isinstance(error, ResponseError))
    return str(ordered[0]) if ordered else ""
