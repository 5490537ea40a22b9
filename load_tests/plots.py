"""The plots, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from load_tests.measure import Curve, Row

_OURS, _OTHERS = "#1f6feb", "#9aa4b2"


def plot_all(rows: Sequence[Row], curves: Sequence[Curve], folder: Path) -> None:
    """Draw what was measured into `folder`.

    Args:
        rows: Those of the HTTP comparison become bars.
        curves: A plot each.
        folder: Where to.
    """
    mpl.use("svg")
    # The same figures give the same file, so that only what has changed shows in a diff.
    mpl.rcParams["svg.hashsalt"] = "revokebus"
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 11})
    over_http = [row for row in rows if row.what == "protected endpoint over HTTP"]
    if over_http:
        _plot_peers(over_http, folder)
    for curve in curves:
        _plot_curve(curve, folder)


def _plot_peers(rows: Sequence[Row], folder: Path) -> None:
    rates = {row.against: row.theirs or 0.0 for row in rows} | {"RevokeBus": rows[0].ours}
    names = sorted(rates, key=lambda name: rates[name])
    figure, axes = plt.subplots(figsize=(8, 3.6))
    colours = [_OURS if name == "RevokeBus" else _OTHERS for name in names]
    bars = axes.barh(names, [rates[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.set_xlabel("requests a second, one uvicorn worker; more is better")
    axes.margins(x=0.12)
    _save(figure, folder / "peers.svg")


def _plot_curve(curve: Curve, folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for name, points in curve.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
    axes.set_ylim(bottom=0)
    if max(x for points in curve.lines.values() for x, _ in points) > 1000:
        axes.set_xscale("log")
    axes.legend(frameon=False)
    axes.grid(axis="y", alpha=0.3)
    _save(figure, folder / f"{curve.name}.svg")


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
