"""What a fault is done to, and one run of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from tests.faults.arena import AnyServers, Arena

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from tests.faults.arena import Outcome


def _here(work: Callable[[], Outcome]) -> Outcome:
    return work()


@dataclass(frozen=True)
class Scenario(Generic[AnyServers]):
    """A fault, and the servers that it is done to.

    Attributes:
        fault: The fault.
        servers: Starts the servers, given the executable or None for the embedded one.
        settings: Settings of the fleet that differ from the usual.
        control: Whether the naive listener runs beside it. Not where it would freeze the loop.
        where: Runs the whole in another place.
    """

    fault: Callable[[Arena[AnyServers]], Awaitable[None]]
    servers: Callable[[str | None], AbstractContextManager[AnyServers]]
    settings: dict[str, Any] = field(default_factory=dict)
    control: bool = True
    where: Callable[[Callable[[], Outcome]], Outcome] = _here


@dataclass(frozen=True)
class Run:
    """How a scenario is run.

    Attributes:
        seed: Makes chances repeatable.
        binary: The server's executable; None for the embedded one.
        before: Seconds of load before each fault.
        after: Seconds of load after each.
        debug: Whether asyncio watches for slow callbacks and forgotten awaits.
    """

    seed: int
    binary: str | None = None
    before: float = 1.0
    after: float = 1.0
    debug: bool = False

    def inject(
        self, name: str, scenario: Scenario[Any], *more: Callable[[Arena[Any]], Awaitable[None]]
    ) -> Outcome:
        """Run `scenario`, and then `more` faults on the same servers."""

        def work() -> Outcome:
            with scenario.servers(self.binary) as servers:
                arena = Arena(servers, self.seed, scenario.settings, control=scenario.control)
                faults = [scenario.fault, *more]
                return asyncio.run(
                    arena.run(name, faults, before=self.before, after=self.after), debug=self.debug
                )

        return scenario.where(work)
