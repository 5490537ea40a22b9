"""A process that goes on revoking: ``python -m load_tests.writer URL A_SECOND``."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time

from load_tests.revoke import token
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError
from revokebus.settings.settings import Settings

PORTIONS_A_SECOND = 100
_LATE = 0.1
_LONGEST = 120.0


async def main() -> None:
    """Revoke in portions, a hundred of them a second, until it is ended; two minutes at most."""
    url, a_second = sys.argv[1], int(sys.argv[2])
    async with Engine(Settings(secret_key=secrets.token_urlsafe(64), redis_url=url)) as engine:
        began = due = time.perf_counter()
        while due < began + _LONGEST:
            # A process that was frozen finds its request too late: the outbox has it.
            with contextlib.suppress(NotDurableError):
                await engine.revoke_many([token() for _ in range(a_second // PORTIONS_A_SECOND)])
            # What it was frozen for is not made up.
            due = max(due, time.perf_counter() - _LATE) + 1 / PORTIONS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


if __name__ == "__main__":
    asyncio.run(main())
