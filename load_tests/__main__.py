"""``python -m load_tests [WORD]``: measures everything, or what has the word in its name.

Prints a table, writes JSON and plots to ``load_tests/results``; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from load_tests.measure import Curve, Entry
from load_tests.plots import plot_all
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS = {
    "endpoint": "a protected endpoint in process, with 0 and 1,000,000 entries",
    "http": "the same over HTTP, beside what people use instead",
    "first_sight": "a token that was never seen",
    "revoke": "revoke and revoke_many",
    "propagation": "from one process to another",
    "cold_start": "a start with 1,000,000 records: time, memory, stalls",
    "stalls": "the longest stall while growing, sweeping, applying",
    "busy": "latency while 5,000 tokens a second are revoked",
    "growth": "more entries, more instances",
    "outage": "a request while Redis is frozen",
}
HEADINGS = ("what", "against", "RevokeBus", "the other", "measured", "bar", "")
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run them and return the exit status."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [name for name in BENCHMARKS if word in name]
    console = Console()
    if not chosen:
        console.print(f"No benchmark is called {word}; there are {', '.join(BENCHMARKS)}.")
        return 2
    rows: list[Entry] = []
    curves: list[Curve] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        for name in chosen:
            task = bars.add_task(f"{name}: {BENCHMARKS[name]}", total=1.0)
            rows_of, curves_of = run(name, partial(show, bars, task))
            rows += rows_of
            curves += curves_of
            bars.update(task, completed=1.0)
            bars.stop_task(task)
    console.print(table(rows))
    console.print(machine())
    # A part must not replace the plots of the whole, which the documentation shows.
    folder = RESULTS / word if word else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "all.json"
    whole = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    whole["curves"] = [asdict(curve) for curve in curves]
    results.write_text(json.dumps(whole, indent=1) + "\n")
    results.with_suffix(".md").write_text(markdown(rows))
    plot_all(rows, curves, folder)
    missed = [row for row in rows if row.missed]
    for row in missed:
        console.print(f"missed: {row.what} ({row.against or 'absolute'})", style="red")
    console.print(f"Written to {results}, with its plots beside it.")
    return int(bool(missed))


def show(bars: Progress, task: TaskID, done: float) -> None:
    """Show how far a benchmark has come."""
    bars.update(task, completed=done)


def run(name: str, progress: Callable[[float], None]) -> tuple[list[Entry], list[Curve]]:
    """Run one in a process of its own and return what it tells.

    Raises:
        RuntimeError: It failed.
    """
    rows: list[Entry] = []
    curves: list[Curve] = []
    command = [sys.executable, "-m", f"load_tests.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "progress" in told:
                progress(told["progress"])
            elif "row" in told:
                rows.append(Entry(**told["row"]))
            else:
                curves.append(Curve(**told["curve"]))
    if process.returncode:
        raise RuntimeError(f"the benchmark {name} failed; what it printed stands above")
    return rows, curves


def table(rows: Sequence[Entry]) -> Table:
    """Return the table that is printed."""
    made = Table(title="RevokeBus beside others; medians of rounds that alternate in one run")
    for number, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="right" if number > 1 else "left")
    for row in rows:
        style = "red" if row.missed else None
        made.add_row(*(cell.strip("*") for cell in cells(row)), style=style)
    return made


def cells(row: Entry) -> tuple[str, ...]:
    """Return a row of the table as text."""
    sign = "≥" if row.kind == "least" else "≤"
    return (
        row.what,
        row.against or "-",
        f"{row.ours:,.4g} {row.unit}",
        "-" if row.theirs is None else f"{row.theirs:,.4g} {row.unit}",
        f"{row.measured:.3g}" + ("" if row.theirs is not None else f" {row.unit}"),
        "-" if row.bar is None else f"{sign} {row.bar:g}",
        "" if row.bar is None else ("**missed**" if row.missed else "met"),
    )


def markdown(rows: Sequence[Entry]) -> str:
    """Return the table as it stands in the documentation."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine() -> str:
    """Return what it was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    with RedisServer() as server, server.client() as client:
        info = client.info("server")
    return (
        f"{len_cpus()} x {cpu}, {platform.system()} {platform.release().split('-')[0]}, Python "
        f"{platform.python_version()}, {info.get('server_name', 'redis')} "
        f"{info.get('valkey_version', info['redis_version'])}, redis-py {redis.__version__}, "
        f"{time.strftime('%Y-%m-%d')}"
    )


def len_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
