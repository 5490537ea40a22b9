"""``make faults``: every fault in turn, and a table of what held.

``make faults SEED=7`` repeats a run's random choices, ``make faults ONLY=FLUSHALL`` runs those
whose name contains the word.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from revokebus.testing import RedisServer
from tests.faults.arena import Arena, Outcome
from tests.faults.scenarios import FAULTS

BEFORE, AFTER = 1.5, 1.5


def main() -> int:
    """Run, print, and return 0 if every promise held and the control broke some."""
    logging.getLogger("revokebus").setLevel(logging.CRITICAL)  # faults are what it is about
    console = Console(width=max(120, Console().width))
    seed = int(os.environ.get("SEED") or secrets.randbelow(10_000))
    only = os.environ.get("ONLY", "")
    names = [name for name in FAULTS if only in name]
    console.print(f"SEED={seed}")
    outcomes = [run(name, seed) for name in track(names, "Injecting faults", console=console)]
    console.print(table(outcomes))
    if not any(outcome.control for outcome in outcomes):
        console.print("The naive control broke no promise, so this run proves nothing.")
        return 1
    return int(not all(outcome.held for outcome in outcomes))


def run(name: str, seed: int) -> Outcome:
    """Inject one fault into a fleet and a server of its own."""
    with RedisServer(options={"save": "3600 100000"}) as server:
        return asyncio.run(Arena(server, seed).run(name, FAULTS[name], before=BEFORE, after=AFTER))


def table(outcomes: list[Outcome]) -> Table:
    """Return a row for each fault."""
    result = Table(title="Three instances, a revocation every few milliseconds")
    result.add_column("fault")
    for heading in (
        "acknowledged",
        "G1",
        "G2",
        "G3",
        "missing",
        "not in Redis",
        "s to fresh",
        "s stale",
        "naive control",
    ):
        result.add_column(heading, justify="right")
    for each in outcomes:
        result.add_row(
            each.fault,
            *map(str, (each.acknowledged, each.bound, each.forgotten, each.lies)),
            *map(str, (each.missing, each.unrecorded)),
            f"{each.seconds_to_fresh:.2f}",
            f"{each.stale_seconds:.2f}",
            str(each.control),
            style="" if each.held else "bold red",
        )
    return result


if __name__ == "__main__":
    sys.exit(main())
