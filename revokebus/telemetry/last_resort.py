"""Says how serious a message is where logging is not set up.

Python then prints warnings without their level, and so does an application under uvicorn, which
sets up its own loggers alone.
"""

from __future__ import annotations

import logging


class LastResort(logging.StreamHandler):  # type: ignore[type-arg]  # of standard error
    """Prints warnings and errors with their level, as long as no other handler would.

    A handler that is added later takes over by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether no one else takes the record."""
        at: logging.Logger | None = logging.getLogger(record.name)
        while at is not None:
            if any(not isinstance(each, LastResort) for each in at.handlers):
                return False
            at = at.parent if at.propagate else None
        return bool(super().filter(record))


def say_levels() -> None:
    """Have the project's logger do so, if it does not already."""
    own = logging.getLogger("revokebus")
    if not any(isinstance(each, LastResort) for each in own.handlers):
        own.addHandler(LastResort())
