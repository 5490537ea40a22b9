"""`make bench` loses nothing that it has measured."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from load_tests import __main__ as bench
from load_tests.measure import absolute
from load_tests.writer import PORTIONS_A_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = absolute("the weight of a feather, which is a long name for a small thing", 1.5, "g", 2.0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `make bench` with one part that is there and one that is not."""
    real = bench.run

    def one(name: str, what: str, progress: Callable[[float], None]) -> Any:
        return ([ROW], []) if name == "feather" else real(name, what, progress)

    parts = {"missing": "a part that cannot be run", "feather": "a part that can"}
    monkeypatch.setattr(bench, "BENCHMARKS", parts)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "run", one)
    # matplotlib is in the environment of the benchmarks only.
    monkeypatch.setitem(sys.modules, "load_tests.plots", SimpleNamespace(plot_all=lambda *_: None))

    def main(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        return bench.main()

    return main


def test_a_part_that_fails_costs_no_other(
    run: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Minutes of measuring would be lost because the last part could not be run."""
    assert run() == 1
    printed = capfd.readouterr().out
    assert "missing: a part that cannot be run" in printed
    assert "No module named load_tests.missing" in printed
    assert ROW.what in printed  # in full width, because this is no terminal
    rows = json.loads((tmp_path / "whole" / "all.json").read_text())["rows"]
    assert [bool(row["failed"]) for row in rows] == [True, False]
    assert "**failed**" in (tmp_path / "whole" / "all.md").read_text()


def test_the_exit_status_is_zero_where_all_is_well(run: Callable[..., int]) -> None:
    """A script would take a good run for a bad one."""
    assert run("feather") == 0


def test_the_page_is_changed_on_request_only(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run would rewrite tracked files, and the next test run fail."""
    page, published = tmp_path / "page.md", tmp_path / "published"
    published.mkdir()
    page.write_text("before\n<!-- table -->\n| old |\n\nMeasured on x.\nafter\n")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(bench, "PUBLISHED", published)
    run()
    assert run("feather", "--publish") == 2  # a part is not the whole
    assert run("--publish") == 1  # a part has failed
    assert "| old |" in page.read_text()
    monkeypatch.setattr(bench, "BENCHMARKS", {"feather": "a part that can"})
    assert run("--publish") == 0
    before, _, after = page.read_text().partition(bench.markdown([ROW]))
    assert before == "before\n<!-- table -->\n"
    assert after.startswith("\nMeasured on ")
    assert after.endswith("\nafter\n")
    assert sorted(path.name for path in published.iterdir()) == ["all.json", "all.md"]


def test_a_writer_is_asked_for_whole_portions() -> None:
    """The rate that is checked would be another than the one that was asked for."""
    assert 5_000 % PORTIONS_A_SECOND == 10_000 % PORTIONS_A_SECOND == 0
