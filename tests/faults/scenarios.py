"""The faults, each done to a real server under load."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from revokebus.wire import MAX_BYTES

if TYPE_CHECKING:
    from tests.faults.arena import Arena, Fault

FROZEN_SECONDS = 2.5
AWAY_SECONDS = 1.5


async def kill_subscribers(arena: Arena) -> None:
    """Close every subscription, five times."""
    for _ in range(5):
        with arena.server.client() as client:
            client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(arena.rng.uniform(0.05, 0.3))


async def kill_all_connections(arena: Arena) -> None:
    """Close every connection, five times."""
    for _ in range(5):
        with arena.server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(arena.rng.uniform(0.05, 0.3))


async def freeze(arena: Arena) -> None:
    """Stop the server for longer than the bound, with its connections open."""
    arena.server.freeze()
    await asyncio.sleep(FROZEN_SECONDS)
    arena.server.thaw()


async def restart_empty(arena: Arena) -> None:
    """Kill the server and start it without its data."""
    arena.server.kill()
    await asyncio.sleep(AWAY_SECONDS)
    arena.server.start()


async def restart_from_old_snapshot(arena: Arena) -> None:
    """Kill the server and start it with the data of a second ago."""
    with arena.server.client() as client:
        client.save()
    await asyncio.sleep(1.0)
    arena.server.kill()
    arena.server.start()


async def flush(arena: Arena) -> None:
    """FLUSHALL."""
    with arena.server.client() as client:
        client.flushall()


async def flush_and_restart_half(arena: Arena) -> None:
    """FLUSHALL, and two of three instances start anew."""
    with arena.server.client() as client:
        client.flushall()
    for instance in arena.instances[1:]:
        await instance.restart()


async def restart_one(arena: Arena) -> None:
    """Start each instance anew, while the others go on."""
    for instance in arena.instances:
        await instance.restart()


async def withdraw_rights(arena: Arena) -> None:
    """Take the right to the channel away while everybody is subscribed, and give it back."""
    with arena.server.client() as client:
        client.acl_setuser("default", enabled=True, reset_channels=True)
    await asyncio.sleep(AWAY_SECONDS)
    with arena.server.client() as client:
        client.acl_setuser("default", enabled=True, channels=["*"])


async def fill(arena: Arena) -> None:
    """Let Redis refuse writes because it is full, and then make room."""
    with arena.server.client() as client:
        client.config_set("maxmemory", 1)
        await asyncio.sleep(AWAY_SECONDS)
        client.config_set("maxmemory", 0)


async def fence(arena: Arena) -> None:
    """Let Redis refuse writes because no replica takes them, and then allow them."""
    with arena.server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        await asyncio.sleep(AWAY_SECONDS)
        client.config_set("min-replicas-to-write", 0)


async def block_the_loop(_: Arena) -> None:
    """Let nothing run in this process for three seconds."""
    import time  # noqa: PLC0415 - blocking on purpose

    time.sleep(3.0)  # noqa: ASYNC251 - on purpose


async def hostile_publisher(arena: Arena) -> None:
    """Publish what is malformed, oversized, or forged."""
    with arena.server.client() as client:
        epoch = client.hget("{revokebus}:meta", "epoch") or b""
        assert isinstance(epoch, bytes)
        forged = b"RB %s 0-0 99999999999999-0 1 []" % epoch
        junk = [b"", b"\x00\xff" * 50, b"x" * (MAX_BYTES + 1), b"RB a b c d", forged]
        for _ in range(200):
            client.publish("{revokebus}:ch", arena.rng.choice(junk))
            await asyncio.sleep(0.002)


FAULTS: dict[str, Fault] = {
    "CLIENT KILL of subscribers": kill_subscribers,
    "CLIENT KILL of everybody": kill_all_connections,
    "SIGSTOP, SIGCONT": freeze,
    "kill -9, empty restart": restart_empty,
    "kill -9, old snapshot": restart_from_old_snapshot,
    "FLUSHALL": flush,
    "FLUSHALL, half restarted": flush_and_restart_half,
    "instances restarted": restart_one,
    "channel rights withdrawn": withdraw_rights,
    "OOM at maxmemory": fill,
    "NOREPLICAS": fence,
    "event loop blocked for 3 s": block_the_loop,
    "hostile publisher": hostile_publisher,
}
