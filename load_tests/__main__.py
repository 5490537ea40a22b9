"""``python -m load_tests [WORD] [--publish]``: measures everything, or the parts named so.

Prints a table, and writes it as JSON, text and plots to ``build/bench``. A part that fails is a row
that says so. Exits with 1 if a bar is missed or a part has failed. With ``--publish``, the figures
of a whole run replace those that the documentation shows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
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

from load_tests.measure import Curve, Row, failure
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    "ordinary": "refreshing, clocks that differ, log-outs at once, many users",
}
FLEET = {
    "fleet.ticks": "what a tick costs Redis, and what it writes",
    "fleet.overload": "more ticks than Redis can answer, and pauses",
    "fleet.delivery": "a revocation reaches all of them",
    "fleet.replica": "a fleet that reads from a replica",
    "fleet.roll_call": "ten thousand instances are asked",
    "fleet.starts": "two hundred instances start at once",
    "fleet.connections": "connections at rest and after a burst",
    "fleet.lost": "Redis loses a million revocations",
}
HEADINGS = ("what", "against", "RevokeBus", "the other", "measured", "bar", "")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "bench"
PUBLISHED = ROOT / "load_tests" / "results"
PAGE, FLEET_PAGE = ROOT / "docs" / "performance.md", ROOT / "docs" / "scale.md"
_NARROW = 120
_WIDE = 200
_PART_SECONDS = 900.0


def main() -> int:
    """Run them and return the exit status."""
    arguments = argparse.ArgumentParser(prog="make bench")
    arguments.add_argument("word", nargs="?", default="", help="part of a benchmark's name")
    arguments.add_argument("--publish", action="store_true", help="replace what the page shows")
    arguments.add_argument("--fleet", action="store_true", help="what thousands of instances cost")
    chosen = arguments.parse_args()
    benchmarks = FLEET if chosen.fleet else BENCHMARKS
    names = [name for name in benchmarks if chosen.word in name]
    # Where the output is no terminal, nothing is cut off.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDE)
    if not names:
        console.print(f"No benchmark is called {chosen.word}; there are {', '.join(benchmarks)}.")
        return 2
    if chosen.publish and chosen.word:
        console.print("Only a whole run is published.")
        return 2
    rows, curves = run_all({name: benchmarks[name] for name in names}, console)
    print_rows(rows, console)
    console.print(machine(), soft_wrap=True)
    results = RESULTS / "fleet" if chosen.fleet else RESULTS
    folder = write(rows, curves, results / (chosen.word or "whole"))
    console.print(f"Written to {folder}.", soft_wrap=True)
    missed = [row for row in rows if row.missed]
    for row in missed:
        why = row.failed or f"missed, against {row.against or 'the bar'}"
        console.print(f"{row.what}: {why}", style="red", soft_wrap=True)
    if chosen.publish:
        if any(row.failed for row in rows):
            console.print("Nothing is published, because a part has failed.")
        else:
            publish(folder, FLEET_PAGE if chosen.fleet else PAGE)
            console.print("Published. The README has three of the figures: see test_readme.py.")
    return int(bool(missed))


def run_all(benchmarks: Mapping[str, str], console: Console) -> tuple[list[Row], list[Curve]]:
    """Run benchmarks in turn; one that fails becomes a row, and the next is run."""
    rows: list[Row] = []
    curves: list[Curve] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        for name, what in benchmarks.items():
            task = bars.add_task(f"{name}: {what}", total=1.0)
            rows_of, curves_of = run(name, what, partial(show, bars, task))
            rows += rows_of
            curves += curves_of
            bars.update(task, completed=1.0)
            bars.stop_task(task)
    return rows, curves


def write(rows: Sequence[Row], curves: Sequence[Curve], folder: Path) -> Path:
    """Write what was measured, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        "curves": [asdict(curve) for curve in curves],
    }
    (folder / "all.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / "all.md").write_text(markdown(rows))
    if measured := [row for row in rows if not row.failed]:
        from load_tests.plots import plot_all  # noqa: PLC0415 - matplotlib is in .venv-bench only

        plot_all(measured, curves, folder)
    return folder


def publish(folder: Path, page: Path) -> None:
    """Show the figures of a whole run on a page of the documentation."""
    for path in folder.iterdir():
        if path.suffix == ".svg" or page == PAGE:
            shutil.copy(path, PUBLISHED / path.name)
    table, whole = (folder / "all.md").read_text(), json.loads((folder / "all.json").read_text())
    before, _, rest = page.read_text().partition("<!-- table -->\n")
    after = rest.partition("\n\nMeasured on ")[2].partition("\n")[2]
    page.write_text(f"{before}<!-- table -->\n{table}\nMeasured on {whole['machine']}.\n{after}")


def show(bars: Progress, task: TaskID, done: float) -> None:
    """Show how far a benchmark has come."""
    bars.update(task, completed=done)


def run(name: str, what: str, progress: Callable[[float], None]) -> tuple[list[Row], list[Curve]]:
    """Run one in a process of its own; return what it tells, with a row if it has failed."""
    rows: list[Row] = []
    curves: list[Curve] = []
    command = [sys.executable, "-m", f"load_tests.{name}"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own
            command, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        ended = threading.Timer(_PART_SECONDS, process.kill)
        ended.start()
        for line in process.stdout:
            told = json.loads(line)
            if "progress" in told:
                progress(told["progress"])
            elif "row" in told:
                rows.append(Row(**told["row"]))
            else:
                curves.append(Curve(**told["curve"]))
        process.wait()
        ended.cancel()
        errors.seek(0)
        printed = errors.read()
    sys.stderr.write(printed)
    if process.returncode:
        last = printed.strip().rpartition("\n")[2] or f"exit status {process.returncode}"
        rows.append(failure(f"{name}: {what}", last))
    return rows, curves


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Print the table, or, on a narrow terminal, a list of the same."""
    if console.width >= _NARROW:
        console.print(table(rows))
        return
    for row in rows:
        what, against, ours, theirs, measured, bar, verdict = cells(row)
        console.print(what, style="red" if row.missed else "bold")
        console.print(f"  {ours}" + (f"; {against}: {theirs}" if row.theirs is not None else ""))
        console.print(f"  measured {measured}, bar {bar} {verdict.strip('*')}")


def table(rows: Sequence[Row]) -> Table:
    """Return the table that is printed."""
    made = Table(title="RevokeBus beside others; medians of rounds that alternate in one run")
    for number, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="right" if number > 1 else "left")
    for row in rows:
        style = "red" if row.missed else None
        made.add_row(*(cell.strip("*") for cell in cells(row)), style=style)
    return made


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table as text."""
    if row.failed:
        return (row.what, "-", "-", "-", "-", "-", "**failed**")
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


def markdown(rows: Sequence[Row]) -> str:
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
