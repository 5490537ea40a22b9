"""A cluster of three primaries with a replica each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from revokebus.testing.process import LOOPBACK, ProcessGroup, ReservedPort, wait_until
from revokebus.testing.redis_server import RedisServer, follows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    import redis

_PRIMARIES = 3
_NODE_TIMEOUT_MS = 1000
_MOVED_AT_ONCE = 50


class ClusterNode(RedisServer):
    """One node.

    Args:
        binary: The server's executable; by default the embedded Valkey.
        options: Further configuration directives and their values.
    """

    def __init__(self, binary: str | None = None, options: Mapping[str, str] | None = None) -> None:
        self._reserved_bus_port = ReservedPort()
        self.bus_port = self._reserved_bus_port.number
        cluster = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "cluster-port": str(self.bus_port),
            "repl-diskless-sync-delay": "0",
        }
        super().__init__(binary, {**cluster, **(options or {})})

    def ask(self, command: str, *args: object) -> Any:
        """Return the answer to a ``CLUSTER`` command."""
        with self.client() as client:
            return client.execute_command(f"CLUSTER {command}", *args)

    @property
    def node_id(self) -> str:
        """The node's name within the cluster."""
        answer = self.ask("MYID")
        return str(answer.decode() if isinstance(answer, bytes) else answer)


class ClusterServers(ProcessGroup):
    """A context manager around six nodes.

    Args:
        binary: The server's executable; by default the embedded Valkey.
        options: Configuration directives of all nodes, and their values.
        namespace: Whose slot is spoken of below.

    Attributes:
        nodes: The first three are primaries at the beginning, the others their replicas.
        slot: The one that all keys of the namespace are in.
    """

    def __init__(
        self,
        binary: str | None = None,
        options: Mapping[str, str] | None = None,
        *,
        namespace: str = "revokebus",
    ) -> None:
        super().__init__()
        self.nodes = [ClusterNode(binary, options) for _ in range(2 * _PRIMARIES)]
        self.slot = key_slot(f"{{{namespace}}}".encode())

    @property
    def url(self) -> str:
        """Where some of the nodes are, for ``Settings.redis_url``."""
        nodes = ",".join(f"{LOOPBACK}:{each.port}" for each in self.nodes[:_PRIMARIES])
        return f"redis+cluster://{nodes}"

    def view(self) -> dict[str, Any]:
        """Return the nodes by their address, as the first one that answers sees them."""
        node = next(each for each in self.nodes if each.answers)
        with node.client() as client:
            view: dict[str, Any] = client.execute_command("CLUSTER NODES")
            return view

    @property
    def primary(self) -> ClusterNode:
        """The primary that has the slot."""
        with_slot = [(int(each["epoch"]), each["node_id"]) for each in self._owners()]
        _, node_id = max(with_slot)
        return next(each for each in self.nodes if each.answers and each.node_id == node_id)

    def _owners(self) -> list[dict[str, Any]]:
        return [
            each
            for each in self.view().values()
            if any(int(span[0]) <= self.slot <= int(span[-1]) for span in each["slots"])
        ]

    def client(self) -> redis.Redis:
        """Return a client of the slot's primary; close it after use."""
        return self.primary.client()

    def move_slot(self) -> ClusterNode:
        """Move the slot, key by key, to another primary, and return that."""
        source = self.primary
        view = self.view()
        primaries = {each["node_id"] for each in view.values() if "master" in each["flags"]}
        target = next(
            each for each in self.nodes if each is not source and each.node_id in primaries
        )
        target.ask("SETSLOT", self.slot, "IMPORTING", source.node_id)
        source.ask("SETSLOT", self.slot, "MIGRATING", target.node_id)
        self._move_keys(source, target)
        for node in (target, source, *(each for each in self.nodes if each.node_id in primaries)):
            node.ask("SETSLOT", self.slot, "NODE", target.node_id)
        return target

    def _move_keys(self, source: ClusterNode, target: ClusterNode) -> None:
        with source.client() as client:
            while keys := source.ask("GETKEYSINSLOT", self.slot, _MOVED_AT_ONCE):
                client.migrate(LOOPBACK, target.port, keys, 0, 5000)

    def wait_for_failover(self, old: ClusterNode) -> None:
        """Return when a node other than `old` has the slot, and the cluster serves."""
        wait_until(lambda: self._is_owned_by_another(old), "another node has the slot")
        wait_until(lambda: _serves(self.primary), "the cluster serves again")

    def _is_owned_by_another(self, old: ClusterNode) -> bool:
        ports = {
            int(name.rpartition(":")[2])
            for name, each in self.view().items()
            if each in self._owners()
        }
        return bool(ports) and old.port not in ports

    def _start(self, started: ExitStack) -> None:
        for each in self.nodes:
            started.enter_context(each)
        self._assemble()

    def _assemble(self) -> None:
        primaries, replicas = self.nodes[:_PRIMARIES], self.nodes[_PRIMARIES:]
        share = REDIS_CLUSTER_HASH_SLOTS // _PRIMARIES + 1
        for number, node in enumerate(primaries):
            last = min((number + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
            node.ask("ADDSLOTSRANGE", number * share, last)
            node.ask("SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.ask("MEET", LOOPBACK, self.nodes[0].port, self.nodes[0].bus_port)
        everybody = len(self.nodes)
        wait_until(
            lambda: all(len(each.ask("NODES")) == everybody for each in self.nodes),
            "the nodes know each other",
        )
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.ask("REPLICATE", primary.node_id)
        wait_until(lambda: all(map(_serves, self.nodes)), "the cluster serves")
        wait_until(lambda: all(map(follows, replicas)), "the replicas follow")


def _serves(node: ClusterNode) -> bool:
    return bool(node.ask("INFO")["cluster_state"] == "ok")
