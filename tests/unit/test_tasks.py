from __future__ import annotations

import asyncio

from revokebus.tasks import end


async def test_a_cancellation_that_is_lost_is_repeated() -> None:
    """Stopping an application would hang for ever, because redis-py can lose a cancellation."""
    cancelled = 0

    async def deaf() -> None:
        nonlocal cancelled
        while cancelled < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)  # let it begin to wait
    async with asyncio.timeout(10):
        await end([task])
    assert cancelled == 3
