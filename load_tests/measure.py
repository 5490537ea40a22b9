"""What each benchmark tells: its progress, and rows of the table.

Each runs in a process of its own, and tells it as lines of JSON on standard output.
"""

from __future__ import annotations

import json
import logging
import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        against: What it is compared with; empty where the bar is absolute.
        ours: The figure of RevokeBus.
        theirs: The figure of what it is compared with; None where there is none.
        unit: The unit of both.
        measured: What the bar applies to: a ratio, or `ours`.
        bar: The bar; None for what is only told.
        kind: Whether `measured` must be at least, or at most, the bar.
        note: What a reader should know of it.
        failed: Why it could not be measured; empty where it was.
    """

    what: str
    against: str
    ours: float
    theirs: float | None
    unit: str
    measured: float
    bar: float | None
    kind: Literal["least", "most"]
    note: str = ""
    failed: str = ""

    @property
    def missed(self) -> bool:
        """Whether the bar is missed."""
        if self.failed:
            return True
        if self.bar is None:
            return False
        return self.measured < self.bar if self.kind == "least" else self.measured > self.bar


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot's data.

    Attributes:
        name: The plot's file.
        title: What it shows.
        x: What the horizontal axis is.
        y: What the vertical axis is.
        lines: Points by name.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def log_errors_only() -> None:
    """Log errors only: what the audit says of servers that are thrown away is no news."""
    logging.getLogger("revokebus").setLevel(logging.ERROR)


def tell(told: Row | Curve) -> None:
    """Tell whoever has started this benchmark of a result."""
    print(json.dumps({type(told).__name__.lower(): asdict(told)}), flush=True)


def progress(done: float) -> None:
    """Tell him which part of the work is done."""
    print(json.dumps({"progress": done}), flush=True)


def track(count: int) -> Iterable[int]:
    """Yield the numbers up to `count`, telling the progress."""
    for each in range(count):
        progress(each / count)
        yield each


def medians(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median of each, measured in turn, in another order each round.

    Args:
        rounds: How many are counted; there is one more, that is not.
        contestants: Each does its work once and returns a figure.
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for each in (-1, *track(rounds)):
        random.shuffle(names)
        for name in names:
            figure = contestants[name]()
            if each >= 0:
                figures[name].append(figure)
    return {name: statistics.median(those) for name, those in figures.items()}


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(figures: Sequence[float], percent: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(figures, n=100)[percent - 1]


def compared(
    kind: Literal["least", "most"],
    what: str,
    against: str,
    ours: float,
    theirs: float,
    unit: str,
    bar: float | None,
    note: str = "",
) -> Row:
    """Return the row of a figure that is divided by that of another."""
    return Row(what, against, ours, theirs, unit, ours / theirs, bar, kind, note)


# Of a rate the more the better, of a cost the less.
at_least = partial(compared, "least")
at_most = partial(compared, "most")


def failure(what: str, why: str) -> Row:
    """Return the row of a part that could not be measured."""
    return Row(what, "", 0.0, None, "", 0.0, None, "most", failed=why)


def absolute(what: str, ours: float, unit: str, bar: float | None, note: str = "") -> Row:
    """Return the row of a cost that is compared with nothing."""
    return Row(what, "", ours, None, unit, ours, bar, "most", note)
