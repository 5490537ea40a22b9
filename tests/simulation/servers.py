"""One server, one with a replica, an address with one in reserve, Sentinels, or a cluster."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tests.simulation.loop import SimulatedClock
from tests.simulation.resp import Failure
from tests.simulation.server import Server

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.simulation.loop import Process, SimulatedLoop
    from tests.simulation.lua import Lua
    from tests.simulation.network import Network
    from tests.simulation.server import Replica

Topology = Literal["single", "replica", "address", "sentinel", "cluster"]
View = tuple[Server, int]

_SLOT = 2962
_DOWN_AFTER, _FAILOVER_TAKES, _LOOK = 1.0, 0.5, 0.1
_DEMOTED_AFTER = 1.0
HEARD_WITHIN = 0.5
"""Within how many seconds Sentinels and nodes know who has become the primary."""

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
        replica: For ``Settings.read_from``, of an instance that reads from a replica.
        topology: As above.
        primary: The one that is to be written to.
        all: Those that hold data, or may.
        failovers: How many there were.
        agreed_at: When Sentinels or nodes last came to be of one mind about it, by the loop's time.
        sentinels: The Sentinels, where there are any.
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
        self._rng = rng
        count = {"single": 1, "replica": 2, "address": 2, "sentinel": 2, "cluster": 4}[topology]

        def server(name: str, port: int) -> Server:
            clock = SimulatedClock(loop, began)
            return Server(name, loop, network, (name, port), clock, lua, rng)

        self.all = [server(f"redis{number}", _PORT) for number in range(count)]
        self.primary = self.all[0]
        self.failovers = 0
        self.agreed_at = -math.inf
        self._epoch = 1
        self._down_since: float | None = None
        self._to_demote = 0
        self._apart: set[Server] = set()
        self._is_closed = False
        self.url = f"redis://:password@redis0:{_PORT}/1"
        self.replica = "replica"
        self.sentinels: list[Server] = []
        self._arrange(server)
        observers = self.sentinels or self.all
        self._views: dict[Server, View] = dict.fromkeys(observers, (self.primary, self._epoch))
        if topology not in ("single", "replica"):
            self._watch()

    def _arrange(self, server: Callable[[str, int], Server]) -> None:
        """Let the first one be the primary, and the others what the topology has."""
        if self.topology == "sentinel":
            self.all[1].follow(self.primary)
            self.sentinels = [server(f"sentinel{number}", _SENTINEL_PORT) for number in range(3)]
            for each in self.sentinels:
                each.extra[b"SENTINEL"] = partial(self._sentinel, each)
            names = ",".join(f"sentinel{number}:{_SENTINEL_PORT}" for number in range(3))
            self.url = f"redis+sentinel://{names}/main"
        elif self.topology == "cluster":
            # Of the others, one is a replica of the node that has the slot.
            self.all[1].follow(self.primary)
            for each in self.all:
                each.extra[b"CLUSTER"] = partial(self._nodes, each)
            self.url = "redis+cluster://" + ",".join(f"redis{n}:{_PORT}" for n in range(4))
            for each in self.all[1:]:
                each.moved_to = self.primary.address
        elif self.topology == "address":
            # As managed services have it: the name leads to whichever is the primary.
            self.all[1].follow(self.primary)
            self._network.names["redis", _PORT] = lambda: self.primary.address
            self.url = f"redis://redis:{_PORT}"
            self.replica = f"redis://redis1:{_PORT}"
        elif self.topology == "replica":
            self.all[1].follow(self.primary)
            self.replica = f"redis://:password@redis1:{_PORT}/1"

    def close(self) -> None:
        """End them."""
        self._is_closed = True
        for each in [*self.all, *self.sentinels]:
            each.kill()

    async def settled(self) -> None:
        """Wait until none has to be promoted or demoted, and all know it."""
        while (  # noqa: ASYNC110 - time is virtual
            self._down_since is not None or self._to_demote or not self._are_of_one_mind
        ):
            await asyncio.sleep(_LOOK)

    @property
    def confirms(self) -> bool:
        """Whether there are others who say which server is the primary."""
        return self.topology in ("sentinel", "cluster")

    @property
    def can_be_found(self) -> bool:
        """Whether a Sentinel, if there are any, answers who is primary."""
        return not self.sentinels or any(not each.process.is_stopped for each in self.sentinels)

    @property
    def _are_of_one_mind(self) -> bool:
        return all(epoch == self._epoch for _, epoch in self._views.values())

    @property
    def replicas(self) -> list[Server]:
        """The replicas of the primary."""
        return [each.server for each in self.primary.replicas]

    # Failover

    def _watch(self) -> None:
        if self._is_closed:
            return
        self._network.call_at(self._loop.time() + _LOOK, self._watch)
        if not self._is_away(self.primary):
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

    def _is_away(self, server: Server) -> bool:
        """Return whether the others cannot reach it."""
        if self.topology == "address":
            return server.process.is_dead  # it is fenced before another takes its place
        return server.process.is_stopped or server in self._apart

    def fail_over(self, replica: Server) -> None:
        """Make a replica the primary; the former one becomes its replica when it is back."""
        former, self.primary = self.primary, replica
        replica.promote()
        self._epoch += 1
        self.failovers += 1
        self._down_since = None
        self._tell()
        if self.topology == "address" and not former.process.is_dead:
            former.replicas.clear()
            former.follow(replica)
        else:
            self._demote(former)

    def _demote(self, former: Server) -> None:
        """Have the former primary follow the new one, some time after it is back."""

        def look() -> None:
            if self._is_closed:
                return
            if self._is_away(former):
                self._network.call_at(self._loop.time() + _LOOK, look)
            else:
                self._network.call_at(self._loop.time() + _DEMOTED_AFTER, demote)

        def demote() -> None:
            if self._is_closed:
                return
            if self._is_away(former):
                look()
                return
            self._to_demote -= 1
            if former is self.primary:
                return  # it has become the primary again meanwhile
            former.replicas.clear()
            former.follow(self.primary)

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
        self._learn(former, (target, self._epoch))  # both ends of a move are told
        self._tell()

    def part(
        self, near: Sequence[Process], far: Sequence[Process], *, is_fenced: bool = False
    ) -> Callable[[], None]:
        """Part the primary and the instances near it from everyone else; return what heals it.

        Args:
            near: The instances near it.
            far: The others.
            is_fenced: Whether it accepts writes only with a replica. Then a Sentinel is near it.
        """
        primary = self.primary
        beside = [primary, *(self.sentinels[:1] if is_fenced else [])]
        others = [each for each in [*self.all, *self.sentinels] if each not in beside]
        ways = [self._network.way(process, each.process) for process in near for each in others]
        ways += [self._network.way(process, each.process) for process in far for each in beside]
        links: list[Any] = [*ways, *primary.replicas]

        def part(*, is_cut: bool) -> None:
            for each in links:
                each.is_cut = is_cut

        def notice() -> None:
            # A node that does not see most of the others refuses everything, as one of a cluster.
            primary.is_down = self.topology == "cluster" and primary in self._apart

        def heal() -> None:
            part(is_cut=False)
            self._apart.difference_update(beside)
            if is_fenced:
                primary.min_replicas = 0
            notice()

        part(is_cut=True)
        if is_fenced:
            primary.min_replicas = 1
        self._apart.update(beside)
        self._network.call_at(self._loop.time() + _DOWN_AFTER, notice)
        return heal

    # What each of them believes

    def _tell(self) -> None:
        """Let the new primary know at once who is it, and everyone else a little later."""
        self._learn(self.primary, (self.primary, self._epoch))
        for each in self._views:
            late = self._rng.uniform(0.0, HEARD_WITHIN)
            learn = partial(self._learn, each, (self.primary, self._epoch))
            self._network.call_at(self._loop.time() + late, learn)

    def _learn(self, observer: Server, view: View) -> None:
        if self._is_closed:
            return
        if observer in self._apart or observer.process.is_stopped:
            again = partial(self._learn, observer, view)
            self._network.call_at(self._loop.time() + _LOOK, again)
        elif view[1] > self._views.get(observer, view)[1]:
            self._views[observer] = view
            self.agreed_at = self._loop.time()
            if self.topology == "cluster":
                observer.moved_to = None if observer is view[0] else view[0].address

    # What they answer

    def _sentinel(self, asked: Server, words: list[bytes]) -> Any:
        primary, epoch = self._views[asked]
        host, port = primary.address
        if words[1].upper() == b"MASTER":
            state = {
                "name": "main",
                "ip": host,
                "port": port,
                "flags": "master",
                "config-epoch": epoch,
                "num-slaves": 1,
                "num-other-sentinels": 2,
                "quorum": 2,
            }
            return [str(each).encode() for pair in state.items() for each in pair]
        if words[1].upper() == b"GET-MASTER-ADDR-BY-NAME":
            return [host.encode(), b"%d" % port]
        if words[1].upper() == b"REPLICAS":
            return [_state(each) for each in primary.replicas]
        if words[1].upper() == b"MYID":
            return asked.process.name.encode()
        return Failure("ERR unknown subcommand")

    def _nodes(self, asked: Server, words: list[bytes]) -> Any:
        lines = []
        owner, newest = self._views[asked]
        if words[1].upper() == b"SLOTS":
            host, port = owner.address
            return [[0, 16383, [host.encode(), port, f"{self.all.index(owner):040x}".encode()]]]
        for number, each in enumerate(self.all):
            host, port = each.address
            flags = "myself," if each is asked else ""
            # Other nodes have other slots, or they had no vote.
            others = "16383" if each.primary is None else ""
            slots = "0-16382" if each is owner else others
            flags += "slave" if each.primary is not None else "master"
            flags += ",fail" if each.primary is not None and each.process.is_stopped else ""
            master = "-" if each.primary is None else f"{self.all.index(each.primary):040x}"
            epoch = newest if each is owner else 0
            name, port_of_bus = f"{number:040x}", f"{host}:{port}@1{port}"
            lines.append(
                f"{name} {port_of_bus} {flags} {master} 0 0 {epoch} connected {slots}".rstrip()
            )
        return ("\n".join(lines) + "\n").encode()


def _state(replica: Replica) -> list[bytes]:
    host, port = replica.server.address
    is_away = replica.server.process.is_stopped
    state = {
        "ip": host,
        "port": port,
        "flags": "slave,s_down" if is_away else "slave",
        "master-link-status": "err" if replica.is_cut or is_away else "ok",
    }
    return [str(each).encode() for pair in state.items() for each in pair]
