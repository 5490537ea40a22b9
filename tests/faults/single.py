"""Faults of one server, of the machine's clock, and of those who share the server."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, TypeAlias

from revokebus.engine.engine import Engine
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import MAX_BYTES
from revokebus.testing import RedisServer
from tests.faults.scenario import Scenario
from tests.support import settle

if TYPE_CHECKING:
    from tests.faults.arena import Arena

    SingleArena: TypeAlias = Arena[RedisServer]

FROZEN_SECONDS = 3.5
AWAY_SECONDS = 1.5
FOREIGN_KEYS = 1_000_000
HOUR = 3600.0


def one_server(binary: str | None) -> RedisServer:
    """Return a server that can be saved by hand, and does not save by itself."""
    return RedisServer(binary, {"save": "3600 100000", "enable-debug-command": "local"})


async def kill_subscribers(arena: SingleArena) -> None:
    """Close every subscription, five times."""
    for _ in range(5):
        with arena.servers.client() as client:
            client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(arena.rng.uniform(0.05, 0.3))


async def kill_all_connections(arena: SingleArena) -> None:
    """Close every connection, five times."""
    for _ in range(5):
        with arena.servers.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(arena.rng.uniform(0.05, 0.3))


async def freeze(arena: SingleArena) -> None:
    """Stop the server for longer than the bound, with its connections open."""
    arena.servers.freeze()
    await asyncio.sleep(FROZEN_SECONDS)
    arena.servers.thaw()


async def restart_empty(arena: SingleArena) -> None:
    """Kill the server and start it without its data."""
    arena.servers.kill()
    await asyncio.sleep(AWAY_SECONDS)
    arena.servers.start()


async def restart_from_old_snapshot(arena: SingleArena) -> None:
    """Kill the server and start it with the data of a second ago."""
    with arena.servers.client() as client:
        client.save()
    await asyncio.sleep(1.0)
    arena.servers.kill()
    arena.servers.start()


async def restart_from_old_snapshot_with_half(arena: SingleArena) -> None:
    """The same, and two of three instances start anew at that moment."""
    await restart_from_old_snapshot(arena)
    arena.over()
    await asyncio.gather(*(instance.restart() for instance in arena.instances[1:]))


async def flush(arena: SingleArena) -> None:
    """FLUSHALL."""
    with arena.servers.client() as client:
        client.flushall()


async def flush_and_restart_half(arena: SingleArena) -> None:
    """FLUSHALL, and two of three instances start anew."""
    await flush(arena)
    arena.over()
    await asyncio.gather(*(instance.restart() for instance in arena.instances[1:]))


async def restart_instances(arena: SingleArena) -> None:
    """Start each instance anew, while the others go on."""
    for instance in arena.instances:
        await instance.restart()


async def overflow_output_buffer(arena: SingleArena) -> None:
    """Publish more to subscribers that do not read than the server keeps for them."""
    with arena.servers.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
        listening = len(client.client_list(_type="pubsub"))
        with client.pipeline(transaction=False) as pipe:
            for _ in range(10_000):
                pipe.publish("{revokebus}:ch", b"x" * 5000)
            pipe.execute()  # this process is busy with it, so that nobody reads
        assert len(client.client_list(_type="pubsub")) < listening, "nobody was cut off"
        client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")


async def withdraw_rights(arena: SingleArena) -> None:
    """Take the right to the channel away while everybody is subscribed, and give it back."""
    with arena.servers.client() as client:
        client.acl_setuser("default", enabled=True, reset_channels=True)
    await asyncio.sleep(AWAY_SECONDS)
    with arena.servers.client() as client:
        client.acl_setuser("default", enabled=True, channels=["*"])


async def fill(arena: SingleArena) -> None:
    """Let Redis refuse writes because it is full, and then make room."""
    with arena.servers.client() as client:
        client.config_set("maxmemory", 1)
        await asyncio.sleep(AWAY_SECONDS)
        client.config_set("maxmemory", 0)


async def fence(arena: SingleArena) -> None:
    """Let Redis refuse writes because no replica takes them, and then allow them."""
    with arena.servers.client() as client:
        client.config_set("min-replicas-to-write", 1)
        await asyncio.sleep(AWAY_SECONDS)
        client.config_set("min-replicas-to-write", 0)


async def block_the_loop(_: SingleArena) -> None:
    """Let nothing run in this process for three seconds."""
    time.sleep(3.0)  # noqa: ASYNC251 - on purpose


async def step_the_clock(arena: SingleArena) -> None:
    """Set the wall clock of one instance an hour ahead, of another an hour back, and right."""
    for ahead in (HOUR, -HOUR, 0.0):
        arena.instances[0].clock.ahead = ahead
        arena.instances[1].clock.ahead = -ahead
        await asyncio.sleep(AWAY_SECONDS)


async def hostile_publisher(arena: SingleArena) -> None:
    """Publish what is malformed, oversized, or forged."""
    with arena.servers.client() as client:
        epoch = client.hget("{revokebus}:meta", "epoch") or b""
        assert isinstance(epoch, bytes)
        forged = b"RB %s 0-0 99999999999999-0 1 []" % epoch
        junk = [b"", b"\x00\xff" * 50, b"x" * (MAX_BYTES + 1), b"RB a b c d", forged]
        for _ in range(200):
            client.publish("{revokebus}:ch", arena.rng.choice(junk))
            await asyncio.sleep(0.002)


async def share_the_server(arena: SingleArena) -> None:
    """Restart among a million foreign keys, beside a second namespace that revokes as well."""
    with arena.servers.client() as client:
        client.execute_command("DEBUG", "POPULATE", FOREIGN_KEYS, "foreign", 10)
        assert client.dbsize() > FOREIGN_KEYS
    settle(arena.servers, "other")
    other = Engine(arena.settings.model_copy(update={"namespace": "other"}))
    async with other:
        restarting = asyncio.create_task(arena.instances[0].restart())
        for number in itertools.count():
            expires_at = time.time() + HOUR
            await other._revoker.revoke([Revocation("jti", f"other-{number}", expires_at)])
            if restarting.done():
                break
        await restarting
        assert number > 0
        for instance in arena.instances:
            assert not instance.knows("other-0"), "a revocation of another namespace was applied"
        assert not any(other.is_revoked({"jti": jti}) for jti in arena.acknowledged)


SINGLE = {
    "CLIENT KILL of subscribers": kill_subscribers,
    "CLIENT KILL of everybody": kill_all_connections,
    "SIGSTOP, SIGCONT": freeze,
    "kill -9, empty restart": restart_empty,
    "kill -9, old snapshot": restart_from_old_snapshot,
    "kill -9, old snapshot, half restarted": restart_from_old_snapshot_with_half,
    "FLUSHALL": flush,
    "FLUSHALL, half restarted": flush_and_restart_half,
    "instances restarted": restart_instances,
    "output buffer limit": overflow_output_buffer,
    "channel rights withdrawn": withdraw_rights,
    "OOM at maxmemory": fill,
    "NOREPLICAS": fence,
    "event loop blocked for 3 s": block_the_loop,
    "wall clocks stepped by an hour": step_the_clock,
    "hostile publisher": hostile_publisher,
    "a million foreign keys, two namespaces": share_the_server,
}

SCENARIOS = {name: Scenario(fault, one_server) for name, fault in SINGLE.items()}
