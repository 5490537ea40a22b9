"""Faults of a replica that the fleet reads from, and of its primary meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from revokebus.testing import ClusterServers, SentinelServers
from tests.faults.failover import freeze_primary, kill_primary, lose_the_tail
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.failover import SentinelArena

_AWAY_SECONDS = 3.0
_NOWHERE = ("127.0.0.1", 1)
_READS = {"read_from": "replica"}


async def cut_off(arena: SentinelArena) -> None:
    """Let the replica be told nothing any more, and then everything anew."""
    primary, replica = arena.servers.primary, arena.servers.replica
    with replica.client() as client:
        client.replicaof(*_NOWHERE)
        await asyncio.sleep(_AWAY_SECONDS)
        client.replicaof(*map(str, primary.address))
    await asyncio.to_thread(arena.servers.wait_until_replicating)


async def freeze(arena: SentinelArena) -> None:
    """Stop the replica with its connections open."""
    replica = arena.servers.replica
    replica.freeze()
    await asyncio.sleep(_AWAY_SECONDS)
    replica.thaw()
    await asyncio.to_thread(arena.servers.wait_until_replicating)


async def restart(arena: SentinelArena) -> None:
    """Kill the replica and start it with nothing."""
    replica = arena.servers.replica
    replica.kill()
    await asyncio.sleep(_AWAY_SECONDS)
    await asyncio.to_thread(replica.start)
    await asyncio.to_thread(arena.servers.wait_until_replicating)


SCENARIOS: dict[str, Scenario[Any]] = {
    "Replica: cut off": Scenario(cut_off, SentinelServers, _READS),
    "Replica: frozen": Scenario(freeze, SentinelServers, _READS),
    "Replica: restarted empty": Scenario(restart, SentinelServers, _READS),
    "Replica: primary killed": Scenario(kill_primary, SentinelServers, _READS),
    "Replica: primary frozen": Scenario(freeze_primary, SentinelServers, _READS),
    "Replica: tail lost": Scenario(lose_the_tail, SentinelServers, _READS),
    "Replica of a cluster: primary killed": Scenario(kill_primary, ClusterServers, _READS),
}
