"""What the faults leave behind in this process is cleared away before the next test."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _sockets_of_the_control_are_closed() -> Iterator[None]:
    """redis-py's own client, which is the control, leaves sockets behind where it is cancelled.

    The collector would find them in whatever test comes later, and that would fail.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
