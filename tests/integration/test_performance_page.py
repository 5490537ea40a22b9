"""The page about performance says what was measured, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text()
RESULTS = ROOT / "load_tests" / "results"


def test_the_table_is_the_last_one_that_was_measured() -> None:
    """Readers would decide by figures that nobody has measured."""
    table = (RESULTS / "all.md").read_text()
    assert table in PAGE
    whole = json.loads((RESULTS / "all.json").read_text())
    assert table.count("\n") == len(whole["rows"]) + 2
    assert whole["machine"] in PAGE


def test_every_bar_that_is_missed_is_explained() -> None:
    """A reader would find a bar missed, and no word of why."""
    rows = json.loads((RESULTS / "all.json").read_text())["rows"]
    explained = PAGE.partition("## Bars that are missed")[2]
    for row in rows:
        good = row["measured"] >= row["bar"] if row["kind"] == "least" and row["bar"] else True
        if row["kind"] == "most" and row["bar"]:
            good = row["measured"] <= row["bar"]
        assert good or row["what"].partition(",")[0] in explained, row["what"]


def test_every_benchmark_is_named() -> None:
    """`make bench ONLY=` would be guesswork."""
    source = ast.parse((ROOT / "load_tests" / "__main__.py").read_text())
    (names,) = (
        [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
        for node in source.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and getattr(node.targets[0], "id", "") == "BENCHMARKS"
    )
    for name in names:
        assert f"`{name}`" in PAGE
        assert (ROOT / "load_tests" / f"{name}.py").exists()


def test_the_versions_of_the_peers_are_those_that_are_installed() -> None:
    """The table would name another release than the one that was measured."""
    pinned = dict(
        line.split("==")
        for line in (ROOT / "load_tests" / "requirements.txt").read_text().splitlines()
        if "==" in line
    )
    for name in ("authx", "async-fastapi-jwt-auth"):
        assert re.search(rf"\| {name} {re.escape(pinned[name])} \|", PAGE)
