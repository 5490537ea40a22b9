"""`make simulate`: histories of new seeds, on all cores, until the time is over; or one of them.

`SECONDS` is for how long, `FIRST` the first seed. With `SEED` that history alone is run, shrunk and
shown with its trace, on request with a `MUTANT`.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from tests.simulation.history import Outcome, Plan, run, shrunk
from tests.simulation.mutants import mutated

_PER_TASK = 8
_SHOWN = 30


@dataclass(frozen=True)
class Found:
    """What some histories have shown.

    Attributes:
        histories: How many there were.
        virtual_seconds: How long they were together.
        acknowledged: How many revocations.
        violating: The seeds of those in which a promise was broken.
    """

    histories: int
    virtual_seconds: float
    acknowledged: int
    violating: list[int]


def explore(seeds: list[int]) -> Found:
    """Run a history of each seed."""
    outcomes = [run(Plan.drawn(seed)) for seed in seeds]
    return Found(
        histories=len(outcomes),
        virtual_seconds=sum(each.seconds for each in outcomes),
        acknowledged=sum(each.acknowledged for each in outcomes),
        violating=[each.plan.seed for each in outcomes if each.violations],
    )


def show(outcome: Outcome, *, trace: bool) -> None:
    """Print what a history has shown."""
    lines = [str(outcome.plan)]
    if trace:
        lines += outcome.trace
    lines += [f"  BROKEN {each}" for each in outcome.violations]
    sys.stdout.write("\n".join(lines) + "\n")


def replay(seed: int, mutant: str | None) -> int:
    """Run one history, shrink it if it breaks a promise, and print its trace."""
    with mutated(mutant) if mutant else contextlib.nullcontext():
        outcome = shrunk(Plan.drawn(seed))
    show(outcome, trace=True)
    sys.stdout.write("\n" if outcome.violations else "every promise held\n")
    return int(bool(outcome.violations))


def campaign(seconds: float, first: int) -> int:
    """Run histories on all cores for so many seconds."""
    workers = os.cpu_count() or 1
    until = time.monotonic() + seconds
    histories = acknowledged = 0
    virtual = 0.0
    begins_with = first
    violating: list[int] = []
    columns = TextColumn("{task.description}"), *Progress.get_default_columns()[1:2]
    with (
        ProcessPoolExecutor(workers) as pool,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("simulating", total=seconds)
        running: set[Future[Found]] = set()
        while running or time.monotonic() < until:
            while time.monotonic() < until and len(running) < 2 * workers:
                running.add(pool.submit(explore, list(range(first, first + _PER_TASK))))
                first += _PER_TASK
            done, running = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for found in (each.result() for each in done):
                histories += found.histories
                acknowledged += found.acknowledged
                virtual += found.virtual_seconds
                violating += found.violating
                for seed in found.violating:
                    progress.console.print(f"broken: make simulate SEED={seed}")
            left = max(0.0, until - time.monotonic())
            text = f"{histories:,} histories, {len(violating)} in which a promise was broken"
            progress.update(bar, completed=seconds - left, description=text)
    sys.stdout.write(
        f"{histories:,} histories from seed {begins_with}, "
        f"{virtual / 3600:.1f} hours of virtual time, "
        f"{acknowledged:,} revocations; a promise was broken in {len(violating)}\n"
    )
    for seed in sorted(violating)[:_SHOWN]:
        show(shrunk(Plan.drawn(seed)), trace=False)
        sys.stdout.write(f"  again with: make simulate SEED={seed}\n")
        sys.stdout.flush()
    return int(bool(violating))


def main() -> int:
    """Do what the environment asks for."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets decides, and must be the same in each run.
        again = [sys.executable, "-m", "tests.simulation"]
        return subprocess.run(
            again, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False
        ).returncode
    if seed := os.environ.get("SEED"):
        return replay(int(seed), os.environ.get("MUTANT") or None)
    seconds = float(os.environ.get("SECONDS") or 60)
    first = os.environ.get("FIRST") or random.SystemRandom().randrange(10**9)
    return campaign(seconds, int(first))


if __name__ == "__main__":
    sys.exit(main())
