"""The packages stay as small as the architecture page says."""

from __future__ import annotations

import pkgutil

import revokebus

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
