"""A primary and its replicas that three Sentinels watch over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from revokebus.testing.process import LOOPBACK, ProcessGroup, wait_until
from revokebus.testing.redis_server import RedisServer, follows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack
    from pathlib import Path

SERVICE = "main"
_DOWN_AFTER_MS = 1500
_FAILOVER_TIMEOUT_MS = 3000
_SENTINELS = 3
_QUORUM = 2


class SentinelServer(RedisServer):
    """One Sentinel on a free loopback port.

    Args:
        watched: The primary, as it is at the beginning.
        binary: The server's executable; by default the embedded Valkey.
    """

    def __init__(self, watched: RedisServer, binary: str | None = None) -> None:
        super().__init__(binary)
        self._watched = watched

    def _command(self, folder: Path) -> list[str]:
        config = folder / "sentinel.conf"
        if not config.exists():  # it writes down there what it has learnt
            config.write_text(
                f"port {self.port}\nbind {LOOPBACK}\ndir {folder}\n"
                f"sentinel monitor {SERVICE} {LOOPBACK} {self._watched.port} {_QUORUM}\n"
                f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} {_FAILOVER_TIMEOUT_MS}\n"
            )
        return [self._binary, str(config), "--sentinel"]

    def state(self) -> dict[str, Any]:
        """Return what this Sentinel knows of the primary."""
        with self.client() as client:
            state: dict[str, Any] = client.execute_command("SENTINEL MASTER", SERVICE)
            return state


class SentinelServers(ProcessGroup):
    """A context manager around some servers and three Sentinels.

    Args:
        binary: The server's executable; by default the embedded Valkey.
        options: Configuration directives of all servers, and their values.
        replicas: How many replicas the primary has.

    Attributes:
        servers: The first is the primary at the beginning.
        sentinels: Those who watch over them.
    """

    def __init__(
        self,
        binary: str | None = None,
        options: Mapping[str, str] | None = None,
        *,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        # Without a disk and a delay, so that a replica follows at once.
        shared = {"repl-diskless-sync-delay": "0", **(options or {})}
        first = RedisServer(binary, shared)
        following = {**shared, "replicaof": f"{LOOPBACK} {first.port}"}
        self.servers = [first, *(RedisServer(binary, following) for _ in range(replicas))]
        self.sentinels = [SentinelServer(first, binary) for _ in range(_SENTINELS)]

    @property
    def url(self) -> str:
        """Where the Sentinels are, for ``Settings.redis_url``."""
        nodes = ",".join(f"{LOOPBACK}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{nodes}/{SERVICE}/0"

    @property
    def primary(self) -> RedisServer:
        """The server that most of the Sentinels take for the primary."""
        named = [int(each.state()["port"]) for each in self.sentinels]
        return self._server(max(named, key=named.count))

    @property
    def replica(self) -> RedisServer:
        """The first of the others."""
        primary = self.primary
        return next(each for each in self.servers if each is not primary)

    def client(self) -> redis.Redis:
        """Return a client of the primary; close it after use."""
        return self.primary.client()

    def wait_until_replicating(self) -> None:
        """Return when the replicas follow the primary and all Sentinels know of them."""
        wait_until(self._are_replicating, "the replicas follow the primary")
        wait_until(lambda: all(map(self._knows_all, self.sentinels)), "the Sentinels know all")

    def wait_for_failover(self, old: RedisServer) -> None:
        """Return when a server other than `old` is the primary, and accepts writes."""
        wait_until(lambda: self.primary is not old, "the Sentinels agree on another primary")
        wait_until(lambda: _role(self.primary) == "master", "the new primary serves")

    def _server(self, port: int) -> RedisServer:
        return next(each for each in self.servers if each.port == port)

    def _are_replicating(self) -> bool:
        primary = self.primary
        return all(map(follows, (each for each in self.servers if each is not primary)))

    def _knows_all(self, sentinel: SentinelServer) -> bool:
        state = sentinel.state()
        others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
        return others == _SENTINELS - 1 and replicas == len(self.servers) - 1

    def _start(self, started: ExitStack) -> None:
        for each in self.servers:
            started.enter_context(each)
        wait_until(lambda: all(map(follows, self.servers[1:])), "the replicas have a copy")
        for sentinel in self.sentinels:
            started.enter_context(sentinel)
        self.wait_until_replicating()


def _role(server: RedisServer) -> str:
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except redis.RedisError:
        return ""
