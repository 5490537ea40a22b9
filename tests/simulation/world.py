"""A fleet, its servers, and the network between them, all made from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import TYPE_CHECKING, Any
from unittest import mock

from revokebus import Settings
from revokebus.engine.engine import Engine
from revokebus.replication import repair
from revokebus.store import listing
from tests.simulation.loop import Process, SimulatedClock
from tests.simulation.lua import Lua
from tests.simulation.network import Network
from tests.simulation.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.simulation.load import Revoked
    from tests.simulation.loop import SimulatedLoop
    from tests.simulation.servers import Topology

BEGAN = 1_790_000_000.0
_SECRET = "".join(f"{number:02x}" for number in range(32))
_LUA = Lua()


READS = "reads from a replica"
"""What differs for an instance that reads from a replica, beside its settings."""


class Instance:
    """One process with an engine; it can be killed, frozen, and started again.

    Args:
        world: The world.
        name: What it is called.
        settings: Its settings.

    Attributes:
        name: As above.
        engine: That of the process that runs at the moment.
        process: That process.
        clock: Its machine's clocks.
        generation: How often it was started again: each time it knows nothing.
    """

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self._world = world
        self._settings = settings
        self.name = name
        self.clock = SimulatedClock(world.loop, BEGAN)
        self.generation = -1
        self._begin()

    def _begin(self) -> None:
        self.generation += 1
        self.process = Process(self.name, self.generation)
        self._world.processes.append(self.process)
        self.engine = Engine(self._settings, clock=self.clock)
        self.starting = self.spawn(self.engine.start())
        self.starting.add_done_callback(retrieve)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in its process."""
        return self._world.loop.create_task(coroutine, context=self.process.context())

    @property
    def rotation_grace(self) -> float:
        """For how many seconds it answers an exchange once more."""
        return self._settings.rotation_grace

    @property
    def is_up(self) -> bool:
        """Whether it can answer at this moment."""
        return not self.process.is_dead and not self.process.is_frozen

    @property
    def is_running(self) -> bool:
        """Whether it has started and has not ended."""
        return self.engine._state() in ("fresh", "stale")

    @property
    def bound(self) -> float:
        """Its ``max_staleness``."""
        return self._settings.max_staleness

    def knows(self, revoked: Revoked) -> bool:
        """Return whether the copy refuses the token."""
        return self.engine.is_revoked(revoked.claims)

    def staleness(self) -> float | None:
        """Return the age that it claims for its copy; None where it claims nothing."""
        return self.engine._freshness.age

    @property
    def is_fresh(self) -> bool:
        """Whether it takes its copy for proven."""
        return self.engine._state() == "fresh"

    def kill(self) -> None:
        """End it as a kill does."""
        self._world.network.kill(self.process)

    def start(self) -> None:
        """Start it again, after a kill."""
        if self.process.is_dead:
            self._begin()

    async def restart(self) -> None:
        """End it in good order, as a deployment does, and start it again."""
        process = self.process
        await self.spawn(self.engine.close())
        if self.process is process and not process.is_dead:
            process.kill()
            self._begin()


class World:
    """Everything there is.

    Args:
        loop: The loop.
        seed: Decides everything that is left to chance.
        topology: What servers there are.
        settings: Of each instance, what differs from the defaults.
        latency: Of each way, there or back, in seconds.

    Attributes:
        loop: As above.
        rng: Draws.
        network: Between all of them.
        servers: The servers.
        processes: Those of instances, the dead ones included.
        instances: The fleet.
        tells_of_reload: Whether a primary that has loaded other data shows it.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        seed: int,
        topology: Topology,
        settings: list[dict[str, Any]],
        latency: float,
    ) -> None:
        self.loop = loop
        self.rng = random.Random(seed)  # noqa: S311 - to repeat a run
        self.network = Network(loop, self.rng, latency)
        loop.network = self.network
        self.servers = Servers(topology, loop, self.network, _LUA, self.rng, BEGAN)
        self.settings = [self._settings(each) for each in settings]
        self.processes: list[Process] = []
        self.tells_of_reload = True
        self.instances = [
            Instance(self, f"instance{number}", each) for number, each in enumerate(self.settings)
        ]

    def _settings(self, differing: dict[str, Any]) -> Settings:
        more = {name: value for name, value in differing.items() if name != READS}
        if differing.get(READS):
            more["read_from"] = self.servers.replica
        return Settings(redis_url=self.servers.url, secret_key=_SECRET, **more)

    def later(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Let something go on beside everything else."""
        self.loop.create_task(coroutine).add_done_callback(retrieve)

    async def close(self) -> None:
        """End everything."""
        for each in self.instances:
            each.kill()
        self.servers.close()
        for process in self.processes:
            await process.bury()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=60)


_LITTLE_AT_ONCE = {"_LISTED_AT_ONCE": 20, "_COMPARED_AT_ONCE": 5, "_WRITTEN_AT_ONCE": 20}


@contextlib.contextmanager
def no_other_chance(seed: int) -> Iterator[None]:
    """Let everything that the code draws come from `seed`."""
    rng = random.Random(seed)  # noqa: S311 - likewise
    random.seed(seed)

    def token_hex(count: int = 32) -> str:
        return rng.randbytes(count).hex()

    with (
        mock.patch.object(secrets, "token_hex", token_hex),
        mock.patch.object(secrets, "token_urlsafe", token_hex),
        # As where there is much to be listed, and much was lost, in half of the histories each.
        mock.patch.object(listing, "FEW", -1 if seed % 2 else listing.FEW),
        mock.patch.object(listing, "MOST_AT_ONCE", 2),
        mock.patch.dict(vars(repair), _LITTLE_AT_ONCE if seed % 4 > 1 else {}),
    ):
        yield


def retrieve(task: asyncio.Task[Any]) -> None:
    """Take notice of how something has ended that nobody waits for."""
    if not task.cancelled():
        task.exception()
