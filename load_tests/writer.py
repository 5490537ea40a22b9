"""A process that goes on revoking: ``python -m load_tests.writer URL A_SECOND``."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from load_tests.revoke import token
from revokebus.engine import Engine
from revokebus.settings import Settings

_A_SECOND_IN = 100
_LONGEST = 120.0


async def main() -> None:
    """Revoke in portions, a hundred of them a second, until it is ended; two minutes at most."""
    url, a_second = sys.argv[1], int(sys.argv[2])
    async with Engine(Settings(secret_key=secrets.token_urlsafe(64), redis_url=url)) as engine:
        began = due = time.perf_counter()
        while due < began + _LONGEST:
            await engine.revoke_many([token() for _ in range(a_second // _A_SECOND_IN)])
            due += 1 / _A_SECOND_IN
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


if __name__ == "__main__":
    asyncio.run(main())
