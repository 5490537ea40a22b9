"""What the page is told while it is open."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import FIRST_COMPLETED
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from revokebus.errors import UnavailableError
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from revokebus.engine.engine import Engine
    from revokebus.replication.feed import Heard

_EVERY = 1.0
_MOST_WAITING = 100
# Then the browser asks again, and the guard is asked whether it still may.
_LIFE = 30.0


async def changes(bus: Engine) -> AsyncGenerator[tuple[str, Any]]:
    """Yield events, for half a minute: their name, and what they say.

    ``fleet`` every second or two: how each instance is. ``revoked`` as it comes: one revocation.
    ``trouble``: why there is no ``fleet``. ``closing`` at the end, where the bus is closed.
    """
    heard: asyncio.Queue[Heard | None] = asyncio.Queue(_MOST_WAITING)
    reading = asyncio.create_task(_read(bus, heard), name="revokebus-admin-feed")
    loop = asyncio.get_running_loop()
    until = loop.time() + _LIFE
    looking = asyncio.create_task(_fleet(bus, 0.0), name="revokebus-admin-fleet")
    hearing = asyncio.create_task(heard.get(), name="revokebus-admin-heard")
    try:
        while (left := until - loop.time()) > 0:
            # The instances take their time to answer, which what was revoked does not wait for.
            await asyncio.wait({looking, hearing}, timeout=left, return_when=FIRST_COMPLETED)
            if looking.done():
                yield looking.result()
                looking = asyncio.create_task(_fleet(bus, _EVERY), name="revokebus-admin-fleet")
            if hearing.done():
                each = hearing.result()
                if each is None:
                    yield "closing", {}
                    return
                yield "revoked", asdict(each)
                hearing = asyncio.create_task(heard.get(), name="revokebus-admin-heard")
    finally:
        await end([reading, looking, hearing])


async def _read(bus: Engine, into: asyncio.Queue[Heard | None]) -> None:
    """Hand the feed on; what waits, waits in the feed, which is bounded.

    It ends by itself, because whoever leaves in the midst of an answer ends nothing.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * _LIFE), contextlib.aclosing(bus.feed()) as feed:
            async for each in feed:
                await into.put(each)
            await into.put(None)


async def _fleet(bus: Engine, after: float) -> tuple[str, Any]:
    await asyncio.sleep(after)
    try:
        return "fleet", [asdict(each) for each in await bus.fleet()]
    except UnavailableError as error:
        return "trouble", {"detail": error.public}
