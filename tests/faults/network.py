"""Faults of the network, between two namespaces that are made for it."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import shutil
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from revokebus.testing import RedisServer
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.arena import Arena, Outcome

    NetworkArena: TypeAlias = "Arena[DistantServer]"

SERVER_SIDE, CLIENT_SIDE = f"rb-s-{os.getpid()}", f"rb-c-{os.getpid()}"
SERVER_HOST, CLIENT_HOST = "10.231.0.1", "10.231.0.2"
_CLONE_NEWNET = 0x40000000
_HOLE_SECONDS = 3.5
_LONG_HOLE_SECONDS = 6.0
_KERNEL_RETRIES = 1
_LONGEST_STANDSTILL = 1.0


class DistantServer(RedisServer):
    """A server in the one namespace."""

    host = SERVER_HOST

    def __init__(self, binary: str | None = None) -> None:
        super().__init__(binary, {"protected-mode": "no"})

    def _command(self, folder: Path) -> list[str]:
        return ["ip", "netns", "exec", SERVER_SIDE, *super()._command(folder)]


def why_not() -> str:
    """Return why namespaces cannot be had here, or nothing."""
    if not shutil.which("ip"):
        return "iproute2 is not installed"
    try:
        with _namespaces():
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def _namespaces() -> Iterator[None]:
    """Two namespaces with a cable between them."""
    with ExitStack() as made:
        for name in (SERVER_SIDE, CLIENT_SIDE):
            _ip("netns", "add", name)
            made.callback(_ip, "netns", "del", name)
        ends = f"veth-s netns {SERVER_SIDE} type veth peer veth-c netns {CLIENT_SIDE}"
        _ip("link", "add", *ends.split())
        sides = ((SERVER_SIDE, "veth-s", SERVER_HOST), (CLIENT_SIDE, "veth-c", CLIENT_HOST))
        for name, device, host in sides:
            _ip("-n", name, "addr", "add", f"{host}/30", "dev", device)
            for each in ("lo", device):
                _ip("-n", name, "link", "set", each, "up")
        yield


def between_namespaces(work: Callable[[], Outcome]) -> Outcome:
    """Run `work` in a thread that has entered the clients' namespace."""
    outcomes: list[Outcome] = []
    errors: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            _enter(CLIENT_SIDE)
            outcomes.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)

    with _namespaces():
        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
    if errors:
        raise errors[0]
    return outcomes[0]


def _enter(name: str) -> None:
    """Move this thread, and those that it starts, into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", name).open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")


@contextmanager
def _black_hole() -> Iterator[None]:
    """Let everything that the server sends vanish, without an error for anybody."""
    route = functools.partial(_ip, "-n", SERVER_SIDE, "route")
    route("add", "blackhole", f"{CLIENT_HOST}/32")
    try:
        yield
    finally:
        route("del", "blackhole", f"{CLIENT_HOST}/32")


async def black_hole(_: NetworkArena) -> None:
    """Let the network swallow everything for longer than the bound."""
    with _black_hole():
        await asyncio.sleep(_HOLE_SECONDS)


def _give_up_early() -> None:
    # As this thread sees it, so of its own namespace.
    Path("/proc/sys/net/ipv4/tcp_retries2").write_text(str(_KERNEL_RETRIES))


async def black_hole_until_the_kernel_gives_up(arena: NetworkArena) -> None:
    """Let the kernel end connections with ETIMEDOUT, on which redis-py's loop stands still."""
    _give_up_early()
    loop = asyncio.get_running_loop()
    given_up = [False] * len(arena.instances)
    with _black_hole():
        began = last = loop.time()
        longest = 0.0
        while last < began + _LONG_HOLE_SECONDS:
            await asyncio.sleep(0.01)
            last, longest = loop.time(), max(longest, loop.time() - last)
            for number, instance in enumerate(arena.instances):
                error = instance.engine.status().last_error or ""
                given_up[number] |= "connection lost: [Errno 110]" in error
    assert longest < _LONGEST_STANDSTILL, f"the event loop stood still for {longest:.1f} s"
    assert all(given_up), "the kernel gave up no subscription"


SCENARIOS: dict[str, Scenario[Any]] = {
    "TCP black hole": Scenario(black_hole, DistantServer, where=between_namespaces),
    "TCP black hole, ETIMEDOUT": Scenario(
        black_hole_until_the_kernel_gives_up,
        DistantServer,
        settings={"redis_timeout": 2.5},
        control=False,  # it would freeze the loop that the fleet runs on
        where=between_namespaces,
    ),
}
