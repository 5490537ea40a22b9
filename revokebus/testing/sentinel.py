"""A primary and a replica that three Sentinels watch over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from revokebus.testing.process import LOOPBACK, ProcessGroup, wait_until
from revokebus.testing.redis_server import RedisServer

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
    """A context manager around two servers and three Sentinels.

    Args:
        binary: The server's executable; by default the embedded Valkey.
        options: Configuration directives of both servers, and their values.

    Attributes:
        servers: The first is the primary at the beginning.
        sentinels: Those who watch over them.
    """

    def __init__(self, binary: str | None = None, options: Mapping[str, str] | None = None) -> None:
        super().__init__()
        # Without a disk and a delay, so that a replica follows at once.
        shared = {"repl-diskless-sync-delay": "0", **(options or {})}
        first = RedisServer(binary, shared)
        self.servers = [
            first,
            RedisServer(binary, {**shared, "replicaof": f"{LOOPBACK} {first.port}"}),
        ]
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
        """The other one."""
        primary = self.primary
        return next(each for each in self.servers if each is not primary)

    def client(self) -> redis.Redis:
        """Return a client of the primary; close it after use."""
        return self.primary.client()

    def wait_until_replicating(self) -> None:
        """Return when the replica follows the primary and all Sentinels know of it."""
        wait_until(self._is_replicating, "the replica follows the primary")
        wait_until(lambda: all(map(_knows_all, self.sentinels)), "the Sentinels know each other")

    def wait_for_failover(self, old: RedisServer) -> None:
        """Return when a server other than `old` is the primary, and accepts writes."""
        (new,) = (each for each in self.servers if each is not old)
        wait_until(lambda: self.primary is new, "the Sentinels agree on another primary")
        wait_until(lambda: _role(new) == "master", "the new primary serves")

    def _server(self, port: int) -> RedisServer:
        return next(each for each in self.servers if each.port == port)

    def _is_replicating(self) -> bool:
        with self.replica.client() as client:
            info = client.info("replication")
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")

    def _start(self, started: ExitStack) -> None:
        for each in self.servers:
            started.enter_context(each)
        wait_until(self._replica_is_up, "the replica has copied the primary")
        for sentinel in self.sentinels:
            started.enter_context(sentinel)
        self.wait_until_replicating()

    def _replica_is_up(self) -> bool:
        with self.servers[1].client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")


def _knows_all(sentinel: SentinelServer) -> bool:
    state = sentinel.state()
    others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
    return others == _SENTINELS - 1 and replicas == 1


def _role(server: RedisServer) -> str:
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except redis.RedisError:
        return ""
