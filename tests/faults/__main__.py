"""``make faults``: every fault in turn, and a table of what held.

``make faults SEED=7`` repeats a run's random choices, ``ONLY=FLUSHALL`` runs those whose name
contains the word, ``SECONDS=3600`` goes on with random faults for that long, several in a row on
the same servers, and ``BINARY=redis-server`` takes another server than the embedded one.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults import failover, network, replicas, single
from tests.faults.arena import INSTANCES
from tests.faults.scenario import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.arena import Outcome
    from tests.faults.scenario import Scenario

_MOST_IN_A_ROW = 5
_HEADINGS = {
    "acknowledged": "acknowledged",
    "bound": "G1",
    "forgotten": "G2",
    "lies": "G3",
    "missing": "missing",
    "unrecorded": "not in Redis",
    "seconds_to_fresh": "s to fresh",
    "stale_seconds": "s stale",
    "control": "naive control",
    "promised": "promised",
}


def main() -> int:
    """Run, print, and return 0 if every promise held and the control broke some."""
    logging.getLogger("revokebus").setLevel(logging.CRITICAL)  # faults are what it is about
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    console = Console(width=max(130, Console().width))
    seed = int(os.environ.get("SEED") or secrets.randbelow(10_000))
    seconds = float(os.environ.get("SECONDS") or 0)
    run = Run(seed, binary=os.environ.get("BINARY") or None)
    scenarios = _chosen(console, os.environ.get("ONLY", ""))
    if not scenarios:
        console.print("No fault has a name that contains what ONLY says.")
        return 1
    console.print(f"SEED={seed}")
    outcomes = (
        _soak(console, run, scenarios, seconds) if seconds else _each(console, run, scenarios)
    )
    console.print(_table(outcomes))
    return _verdict(console, outcomes)


def _chosen(console: Console, word: str) -> dict[str, Scenario[Any]]:
    scenarios: dict[str, Scenario[Any]] = {
        **single.SCENARIOS,
        **failover.SCENARIOS,
        **replicas.SCENARIOS,
    }
    if why := network.why_not():
        console.print(f"Skipped: {', '.join(network.SCENARIOS)}: {why}")
    else:
        scenarios |= network.SCENARIOS
    return {name: each for name, each in scenarios.items() if word.lower() in name.lower()}


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _each(console: Console, run: Run, scenarios: dict[str, Scenario[Any]]) -> list[Outcome]:
    outcomes = []
    with _progress(console) as progress:
        task = progress.add_task("", total=len(scenarios))
        for name, scenario in scenarios.items():
            progress.update(task, description=name)
            outcomes.append(run.inject(name, scenario))
            progress.advance(task)
    return outcomes


def _soak(
    console: Console, run: Run, scenarios: dict[str, Scenario[Any]], seconds: float
) -> list[Outcome]:
    outcomes = []
    began = time.monotonic()
    chances = random.Random(run.seed)  # noqa: S311 - to repeat a run, not a secret
    with _progress(console) as progress:
        task = progress.add_task("", total=seconds)
        while (passed := time.monotonic() - began) < seconds:
            name, more = _draw(chances, scenarios)
            progress.update(task, completed=passed, description=" + ".join([name, *more]))
            faults = [single.SINGLE[each] for each in more]
            outcome = run.inject(" + ".join([name, *more]), scenarios[name], *faults)
            outcomes.append(outcome)
            if not outcome.held:
                console.print(outcome)
    return outcomes


def _draw(chances: random.Random, scenarios: dict[str, Scenario[Any]]) -> tuple[str, list[str]]:
    """Return a fault and, where one server is enough, some that follow it."""
    name = chances.choice(list(scenarios))
    following = [each for each in scenarios if each in single.SINGLE]
    if name not in single.SINGLE:
        return name, []
    return name, chances.choices(following, k=chances.randrange(_MOST_IN_A_ROW))


def _table(outcomes: list[Outcome]) -> Table:
    """Return a row for each fault."""
    result = Table(title=f"{INSTANCES} instances, a revocation every few milliseconds")
    result.add_column("fault")
    for field in fields(outcomes[0])[1:]:
        result.add_column(_HEADINGS[field.name], justify="right")
    for each in outcomes:
        result.add_row(*_cells(each), style="" if each.held else "bold red")
    return result


def _cells(outcome: Outcome) -> Iterator[str]:
    for field in fields(outcome):
        value = getattr(outcome, field.name)
        yield f"{value:.2f}" if isinstance(value, float) else str(value)


def _verdict(console: Console, outcomes: list[Outcome]) -> int:
    if not any(outcome.control for outcome in outcomes):
        console.print("The naive control broke no promise, so this run proves nothing.")
        return 1
    broken = [outcome.fault for outcome in outcomes if not outcome.held]
    if broken:
        console.print(f"Broken, or not fresh within what is promised, under: {', '.join(broken)}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
