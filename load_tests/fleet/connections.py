"""How many connections a fleet has, at rest and after it had a lot to do."""

from __future__ import annotations

import asyncio
from typing import Any

from load_tests.fleet.engines import Engines
from load_tests.fleet.held import HeldServer
from load_tests.fleet.ticks import most
from load_tests.measure import log_errors_only, progress, tell

INSTANCES, EACH = 50, 40
SETTLED, AFTER = 3.0, 17.0
"""Connections that are not used are ended after fifteen seconds."""

CONFIRMED: dict[str, Any] = {"confirm": "fleet", "timeout": 10.0}
MOST_AT_REST, MOST_IN_A_BURST = 2.1, 4.0


def main() -> None:
    """Tell how many connections there are for each instance."""
    asyncio.run(measure())


async def measure() -> None:
    """Have each instance revoke a lot at once, and look before, meanwhile and afterwards."""
    with HeldServer() as server, server.client() as client:

        def connected() -> float:
            others: int = client.info("clients")["connected_clients"] - 1
            return others / INSTANCES

        async with Engines(INSTANCES, server.url) as fleet:
            await fleet.watch(SETTLED)
            rest = connected()
            progress(0.2)
            burst = asyncio.gather(
                *(
                    each.revoke_session(f"{number}-{count}", **({} if count else CONFIRMED))
                    for number, each in enumerate(fleet.all)
                    for count in range(EACH)
                )
            )
            highest = rest
            while not burst.done():
                highest = max(highest, connected())
                await asyncio.sleep(0.05)
            await burst
            progress(0.5)
            await fleet.watch(AFTER)
            after = connected()
    tell(most("connections of an instance at rest", rest, "", MOST_AT_REST))
    what = f"connections of an instance while each of {INSTANCES} revokes {EACH} times at once"
    tell(most(what, highest, "", MOST_IN_A_BURST))
    tell(most(f"connections of an instance {AFTER:.0f} s later", after, "", MOST_AT_REST))


if __name__ == "__main__":
    log_errors_only()
    main()
