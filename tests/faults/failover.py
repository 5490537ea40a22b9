"""Faults of a primary that Sentinels watch over, and of a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from revokebus.testing import ClusterServers, SentinelServers
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from tests.faults.arena import Arena

    SentinelArena: TypeAlias = Arena[SentinelServers]
    ClusterArena: TypeAlias = Arena[ClusterServers]
    FailoverArena: TypeAlias = SentinelArena | ClusterArena

_TAIL_SECONDS = 0.7
_AFTERMATH_SECONDS = 1.0
_NOWHERE = ("127.0.0.1", 1)


async def _fail_over(arena: FailoverArena, old: Any) -> None:
    await asyncio.to_thread(arena.servers.wait_for_failover, old)
    arena.over()


async def kill_primary(arena: FailoverArena) -> None:
    """Kill the primary; it comes back empty, and may take itself for the primary for a while."""
    old = arena.servers.primary
    old.kill()
    await _fail_over(arena, old)
    await asyncio.to_thread(old.start)
    await asyncio.sleep(_AFTERMATH_SECONDS)


async def freeze_primary(arena: FailoverArena) -> None:
    """Freeze the primary, which never closes a connection, and thaw it after the failover."""
    old = arena.servers.primary
    old.freeze()
    await _fail_over(arena, old)
    await asyncio.sleep(_AFTERMATH_SECONDS)
    old.thaw()
    await asyncio.sleep(_AFTERMATH_SECONDS)


async def lose_the_tail(arena: SentinelArena) -> None:
    """Kill a primary whose replica has not had its last writes."""
    old, replica = arena.servers.primary, arena.servers.replica
    with replica.client() as client:
        client.replicaof(*_NOWHERE)
    await asyncio.sleep(_TAIL_SECONDS)
    lost = [*arena.acknowledged][-1]
    old.kill()
    with replica.client() as client:
        assert not client.exists(f"{{revokebus}}:r:jti:{lost}"), "no tail was lost"
    await _fail_over(arena, old)
    await asyncio.sleep(_AFTERMATH_SECONDS)


async def move_slot(arena: ClusterArena) -> None:
    """Move the slot of all keys to another primary, key by key."""
    await asyncio.to_thread(arena.servers.move_slot)


SCENARIOS: dict[str, Scenario[Any]] = {
    "Sentinel: primary killed": Scenario(kill_primary, SentinelServers),
    "Sentinel: primary frozen": Scenario(freeze_primary, SentinelServers),
    "Sentinel: tail lost": Scenario(lose_the_tail, SentinelServers),
    "Cluster: slot moved": Scenario(move_slot, ClusterServers),
    "Cluster: primary killed": Scenario(kill_primary, ClusterServers),
    "Cluster: primary frozen": Scenario(freeze_primary, ClusterServers),
}
