"""One server, a primary that Sentinels watch over, or a cluster of three nodes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tests.simulation.loop import SimulatedClock
from tests.simulation.resp import Failure
from tests.simulation.server import Server

if TYPE_CHECKING:
    import random

    from tests.simulation.loop import SimulatedLoop
    from tests.simulation.lua import Lua
    from tests.simulation.network import Network

Topology = Literal["single", "sentinel", "cluster"]

_SLOT = 2962
_DOWN_AFTER, _FAILOVER_TAKES, _LOOK = 1.0, 0.5, 0.1
_DEMOTED_AFTER = 1.0
_PORT, _SENTINEL_PORT = 6379, 26379


class Servers:
    """The servers of one world, and who of them is the primary.

    Args:
        topology: What there is.
        loop: The loop.
        network: Where they listen.
        lua: Runs scripts.
        rng: Draws.
        began: What time it truly is at the beginning.

    Attributes:
        url: For ``Settings.redis_url``.
        topology: As above.
        primary: The one that is to be written to.
        all: Those that hold data, or may.
        failovers: How many there were.
    """

    def __init__(
        self,
        topology: Topology,
        loop: SimulatedLoop,
        network: Network,
        lua: Lua,
        rng: random.Random,
        began: float,
    ) -> None:
        self.topology = topology
        self._loop = loop
        self._network = network
        count = {"single": 1, "sentinel": 2, "cluster": 3}[topology]

        def server(name: str, port: int) -> Server:
            clock = SimulatedClock(loop, began)
            return Server(name, loop, network, (name, port), clock, lua, rng)

        self.all = [server(f"redis{number}", _PORT) for number in range(count)]
        self.primary = self.all[0]
        self.failovers = 0
        self._epoch = 1
        self._down_since: float | None = None
        self._to_demote = 0
        self._is_closed = False
        self.url = f"redis://redis0:{_PORT}"
        self._sentinels: list[Server] = []
        if topology == "sentinel":
            self.all[1].follow(self.primary)
            self._sentinels = [server(f"sentinel{number}", _SENTINEL_PORT) for number in range(3)]
            for each in self._sentinels:
                each.extra[b"SENTINEL"] = self._sentinel
            names = ",".join(f"sentinel{number}:{_SENTINEL_PORT}" for number in range(3))
            self.url = f"redis+sentinel://{names}/main"
        elif topology == "cluster":
            # Of the other two, one is a replica of the node that has the slot.
            self.all[1].follow(self.primary)
            for each in self.all:
                each.extra[b"CLUSTER"] = partial(self._nodes, each)
            self.url = "redis+cluster://" + ",".join(f"redis{n}:{_PORT}" for n in range(3))
            self._show_owner()
        if topology != "single":
            self._watch()

    def close(self) -> None:
        """End them."""
        self._is_closed = True
        for each in [*self.all, *self._sentinels]:
            each.kill()

    async def settled(self) -> None:
        """Wait until nobody has to be promoted or demoted."""
        while self._down_since is not None or self._to_demote:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(_LOOK)

    @property
    def replicas(self) -> list[Server]:
        """The replicas of the primary."""
        return [each.server for each in self.primary.replicas]

    # Failover

    def _watch(self) -> None:
        if self._is_closed:
            return
        self._network.call_at(self._loop.time() + _LOOK, self._watch)
        process = self.primary.process
        if not process.is_dead and not process.is_frozen:
            self._down_since = None
            return
        if self._down_since is None:
            self._down_since = self._loop.time()
        candidates = [
            each
            for each in self.replicas
            if not each.process.is_dead and not each.process.is_frozen
        ]
        if candidates and self._loop.time() - self._down_since >= _DOWN_AFTER + _FAILOVER_TAKES:
            self.fail_over(candidates[0])

    def fail_over(self, replica: Server) -> None:
        """Make a replica the primary; the former one becomes its replica when it is back."""
        former, self.primary = self.primary, replica
        replica.promote()
        self._epoch += 1
        self.failovers += 1
        self._down_since = None
        self._show_owner()
        self._demote(former)

    def _demote(self, former: Server) -> None:
        """Have the former primary follow the new one, some time after it is back."""

        def look() -> None:
            if self._is_closed:
                return
            process = former.process
            if process.is_dead or process.is_frozen:
                self._network.call_at(self._loop.time() + _LOOK, look)
            else:
                self._network.call_at(self._loop.time() + _DEMOTED_AFTER, demote)

        def demote() -> None:
            if self._is_closed:
                return
            if former.process.is_dead or former.process.is_frozen:
                look()
                return
            self._to_demote -= 1
            if former is self.primary:
                return  # it has become the primary again meanwhile
            former.replicas.clear()
            former.follow(self.primary)
            self._show_owner()

        self._to_demote += 1
        look()

    def move_slot(self) -> None:
        """Give the slot to another node of the cluster, with all its keys."""
        former = self.primary
        others = [each for each in self.all if each is not former and each not in self.replicas]
        target = next((each for each in others if not each.process.is_dead), None)
        if target is None:
            return
        target.data.load(former.data.saved())
        for each in self.replicas:
            each.promote()
        former.replicas.clear()
        former.start_afresh()
        self.primary = target
        self._epoch += 1
        self._show_owner()

    # What they answer

    def _sentinel(self, words: list[bytes]) -> Any:
        host, port = self.primary.address
        if words[1].upper() == b"MASTER":
            state = {
                "name": "main",
                "ip": host,
                "port": port,
                "flags": "master",
                "config-epoch": self._epoch,
                "num-slaves": 1,
                "num-other-sentinels": 2,
                "quorum": 2,
            }
            return [str(each).encode() for pair in state.items() for each in pair]
        if words[1].upper() == b"GET-MASTER-ADDR-BY-NAME":
            return [host.encode(), b"%d" % port]
        return Failure("ERR unknown subcommand")

    def _nodes(self, asked: Server, _: list[bytes]) -> Any:
        lines = []
        for number, each in enumerate(self.all):
            host, port = each.address
            flags = "myself," if each is asked else ""
            slots = "0-16383" if each is self.primary else ""
            flags += "slave" if each.primary is not None else "master"
            master = "-" if each.primary is None else f"{self.all.index(each.primary):040x}"
            epoch = self._epoch if each is self.primary else 0
            name, port_of_bus = f"{number:040x}", f"{host}:{port}@1{port}"
            lines.append(
                f"{name} {port_of_bus} {flags} {master} 0 0 {epoch} connected {slots}".rstrip()
            )
        return ("\n".join(lines) + "\n").encode()

    def _show_owner(self) -> None:
        if self.topology == "cluster":
            for each in self.all:
                each.moved_to = None if each is self.primary else self.primary.address
