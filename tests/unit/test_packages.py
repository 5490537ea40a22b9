"""The packages stay as small as the architecture page says."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import revokebus
import revokebus.testing

if TYPE_CHECKING:
    from types import ModuleType

MOST_IN_A_PACKAGE, MOST_IN_THE_ROOT = 12, 10


def test_no_package_grows_into_a_list_of_files() -> None:
    """A newcomer would meet dozens of modules side by side, and not the parts of the system."""
    sizes: dict[str, int] = {}
    for module in pkgutil.walk_packages(revokebus.__path__, "revokebus."):
        if not module.ispkg:
            package = module.name.rpartition(".")[0]
            sizes[package] = sizes.get(package, 0) + 1
    assert sizes.pop("revokebus") <= MOST_IN_THE_ROOT
    assert len(sizes) >= 9
    assert max(sizes.values()) <= MOST_IN_A_PACKAGE, sizes


@pytest.mark.parametrize("package", [revokebus, revokebus.testing])
def test_every_public_name_is_there(package: ModuleType) -> None:
    """A name that is imported when it is asked for could be misspelt, and missing."""
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    assert dir(package) == package.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018 - that it is refused is the point


def test_the_plugin_of_pytest_costs_nothing_where_it_is_not_used() -> None:
    """Each test run in each environment with this package would take a second longer."""
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import revokebus.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    errors = "import revokebus; revokebus.errors.StaleError; revokebus.on_demand.on_demand"
    subprocess.run([sys.executable, "-c", errors], check=True)
    assert set(run.stdout.split()) == {
        "revokebus",
        "revokebus.on_demand",
        "revokebus.testing",
        "revokebus.testing.plugin",
    }
