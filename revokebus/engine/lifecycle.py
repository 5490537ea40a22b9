"""Whether the bus runs, and on which event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

from revokebus.errors import ConfigurationError, NotReadyError
from revokebus.telemetry.events import event

logger = logging.getLogger("revokebus")

Phase = Literal["new", "starting", "running", "closing", "closed"]


class Lifecycle:
    """The phase that a bus is in.

    Attributes:
        phase: The phase.
        loop: The event loop that it was started on last.
        late: What is done although it was not awaited, see `forgotten`.
    """

    def __init__(self) -> None:
        self.phase: Phase = "new"
        self.loop: asyncio.AbstractEventLoop | None = None
        self.late: set[asyncio.Task[Any]] = set()
        self._is_said = False

    @property
    def is_own_loop(self) -> bool:
        """Whether the caller runs on the loop of the bus."""
        return asyncio.get_running_loop() is self.loop

    def require_running(self) -> None:
        """Check that the bus was started and not closed since.

        Raises:
            NotReadyError: It was not.
        """
        if self.phase == "running":
            return
        message = (
            "RevokeBus is not running: it starts with the lifespan of the application that it is "
            "attached to, which is the outermost one. In a test write `with TestClient(app) as "
            "client:`, or `async with bus:` around an AsyncClient, whose transport starts nothing; "
            "in a script `async with RevokeBus() as bus:`"
        )
        if self.phase == "new" and not self._is_said:
            # A client is told less, so that a developer would not see the mistake.
            self._is_said = True
            logger.error(message, extra=event("not_started"))
        raise NotReadyError(message)

    def require_own_loop(self, call: str) -> None:
        """Check that the caller runs on the loop of the bus.

        Args:
            call: What is called, as it stands in a call from a thread.

        Raises:
            ConfigurationError: It runs on another.
        """
        if not self.is_own_loop:
            raise ConfigurationError(
                "this RevokeBus runs on another event loop; in a sync route write "
                f"anyio.from_thread.run({call}); in a test start it in a fixture of the same loop "
                'scope as what uses it (pytest-asyncio: @pytest.fixture(loop_scope="session"))'
            )
