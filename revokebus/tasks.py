"""Ending tasks that redis-py runs in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_CANCEL_AGAIN = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until they have ended.

    Again and again: redis-py uses ``asyncio.wait_for``, which loses a cancellation that comes
    together with its result (before Python 3.12).
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN)
