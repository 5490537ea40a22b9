"""What a tick costs Redis: its processor, and what goes to disk and to replicas."""

from __future__ import annotations

import asyncio
import secrets
import socket
import statistics
from typing import TYPE_CHECKING, Any
from unittest import mock

import hiredis

from load_tests.fleet.engines import Engines
from load_tests.fleet.held import HeldServer
from load_tests.measure import Row, log_errors_only, tell, track
from revokebus.clock import SystemClock
from revokebus.connection.client import Client
from revokebus.scripts import questions
from revokebus.settings.settings import Settings
from revokebus.store.parts import StoreParts

if TYPE_CHECKING:
    from collections.abc import Callable

INSTANCES = 100
SECONDS = 33.0
CONNECTIONS = 200
TICKS = 50
ROUNDS = 7
MOST_MICROSECONDS = 20.0
MOST_BYTES = 15.0


def main() -> None:
    """Tell both: of a server that is busy with nothing but ticks, and of a fleet that is idle."""
    with HeldServer() as server:
        microseconds = statistics.median(cost(server))
    tell(most("Redis's processor for a tick", microseconds, "µs", MOST_MICROSECONDS))
    per_second = 1e6 / microseconds
    tell(
        Row("ticks a second that fill a core of Redis", "", per_second, None, "", 0, None, "least")
    )
    options = {"appendonly": "yes", "appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
    with HeldServer(options) as server, server.client() as client:
        a_second = asyncio.run(written(server, client.info))
    tell(most("written to disk and replicas, an instance", a_second, "B/s", MOST_BYTES))


def cost(server: HeldServer) -> list[float]:
    """Return how many microseconds of a processor a tick takes, as many instances send it."""
    packed = asyncio.run(tick_of(server))
    lines = [socket.create_connection(server.address) for _ in range(CONNECTIONS)]
    figures = []
    for _ in (-1, *track(ROUNDS)):
        before = server.used()
        for _ in range(TICKS):
            for line in lines:
                line.sendall(packed)
            for line in lines:
                receive(line)
        figures.append((server.used() - before) / (TICKS * CONNECTIONS) * 1e6)
    for line in lines:
        line.close()
    return figures[1:]


def receive(line: socket.socket) -> None:
    """Read the answer to a tick."""
    reader = hiredis.Reader()
    while (answer := reader.gets()) is False:
        reader.feed(line.recv(1 << 16))
    assert not isinstance(answer, Exception), answer


async def tick_of(server: HeldServer) -> bytes:
    """Return what an instance sends for a tick, its second on the same connection."""
    parts = StoreParts.of(
        Settings(redis_url=server.url, secret_key=secrets.token_urlsafe(64)), SystemClock()
    )
    sent: list[tuple[Any, ...]] = []
    call = Client.call

    async def note(self: Client, words: tuple[Any, ...]) -> Any:
        sent.append(words)
        return await call(self, words)

    try:
        position = await parts.store.position()
        await parts.instances.beat(b"f 1 e - 1 1 0", b"{}")
        with mock.patch.object(Client, "call", note):
            for _ in range(3):
                await parts.store.read(position)
    finally:
        await parts.close()
    (words,) = (each for each in sent[-1:] if questions.READ.sha in each)
    packed: bytes = hiredis.pack_command(words)
    return packed


async def written(server: HeldServer, info: Callable[[str], Any]) -> float:
    """Return how many bytes a second an instance has written, over three of its heartbeats."""
    async with Engines(INSTANCES, server.url) as fleet:
        await fleet.watch(3.0)
        before = info("persistence")["aof_current_size"]
        seen = await fleet.watch(SECONDS)
        size: float = info("persistence")["aof_current_size"] - before
    return size / seen.seconds / INSTANCES


def most(what: str, ours: float, unit: str, bar: float | None) -> Row:
    """Return the row of a figure that must not be greater than a bar."""
    return Row(what, "", ours, None, unit, ours, bar, "most")


if __name__ == "__main__":
    log_errors_only()
    main()
