"""Tasks that must end, and work that must not be cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

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


def retrieve(task: asyncio.Task[Any]) -> None:
    """Look at how `task` has ended, or the loop complains where nothing waits for it any more."""
    if not task.cancelled():
        task.exception()


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, also when the caller is cancelled meanwhile, who then learns of it.

    For what is short and must be done. redis-py closes connections in tasks of its own, which
    never begin where the caller is cancelled at once.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
