"""The lowest versions that pyproject.toml allows, one a line, as constraints for a resolver."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def lowest() -> list[str]:
    """Return a constraint for each package that is needed by whoever installs this one."""
    dependencies = tomllib.loads(_PROJECT.read_text())["project"]["dependencies"]
    bounds = [_BOUND.match(each) for each in dependencies]
    assert all(bounds), dependencies
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


if __name__ == "__main__":
    print(*lowest(), sep="\n")  # noqa: T201 - for the resolver
