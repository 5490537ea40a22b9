"""Self-repair: what this process holds and Redis has lost, and whose turn it is to write it back.

A fleet notices a loss all at once. Each instance therefore writes only while it has the turn, a
lock in Redis, and only what Redis then still lacks; what another one has written meanwhile comes
back through the log and is crossed off here.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.denylist.denylist import Denylist
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.store.exchanges import Exchanges
    from revokebus.store.store import Store
    from revokebus.telemetry.counters import Counters

logger = logging.getLogger("revokebus")

_COMPARED_AT_ONCE = 1000
_WRITTEN_AT_ONCE = 1000


class Repair:
    """The list of what Redis lacks.

    Args:
        denylist: The copy that Redis is compared with.
        exchanges: The sessions that were refreshed here.
        counters: Is told what was written back.
    """

    def __init__(self, denylist: Denylist, exchanges: Exchanges, counters: Counters) -> None:
        self._exchanges = exchanges
        self._counters = counters
        self._denylist = denylist
        self._lacking: dict[Target, Revocation] = {}
        self._listed: Denylist | None = None
        self._is_unsettled = False

    def __len__(self) -> int:
        return len(self._lacking)

    @property
    def is_interested(self) -> bool:
        """Whether it needs to be told what Redis has."""
        return bool(self._lacking) or self._listed is not None

    def begin(self, *, may_lack: bool = False) -> None:
        """Note what a listing brings, from now on.

        A copy that is empty has nothing to compare, unless Redis may lack what the log will show.

        Args:
            may_lack: Whether it may, because it evicts records.
        """
        self._exchanges.lost()  # exchanges have no entry in the log that could be missed
        self._listed = self._denylist.another() if may_lack or len(self._denylist) else None

    def unsettled(self, *, is_unsettled: bool) -> None:
        """Note whether Redis is new, so that it may have lost sessions that no listing shows."""
        if is_unsettled and not self._is_unsettled:
            self._exchanges.lost()
        self._is_unsettled = is_unsettled

    def has(self, revocations: Iterable[Revocation]) -> None:
        """Note that Redis has these."""
        if not self._lacking:
            return
        for revocation in revocations:
            target = revocation.target
            lacking = self._lacking.get(target)
            if lacking is not None and revocation.covers(lacking):
                del self._lacking[target]

    def listed(self, revocations: Iterable[Revocation]) -> None:
        """Note that the listing has brought these, as far as the copy has room for them."""
        if self._listed is not None:
            self._listed.add_all(each for each in revocations if self._denylist.holds(each))

    def lost(self, revocations: Iterable[Revocation]) -> None:
        """Note that Redis has acknowledged these and lost them."""
        for each in revocations:
            target = each.target
            self._lacking[target] = each.merged(self._lacking.get(target))

    async def compare(self) -> None:
        """Put down every live entry of the copy that the listing did not bring."""
        listed, self._listed = self._listed, None
        if listed is None:
            return
        held = iter(self._denylist.live())
        while some := list(islice(held, _COMPARED_AT_ONCE)):
            self.lost(each for each in some if not listed.covers(each))
            await asyncio.sleep(0)  # let requests through

    async def write_back(self, store: Store, epoch: str) -> None:
        """Write what Redis lacks, in the data set `epoch`, if it is this instance's turn.

        Sessions are written by every instance that remembers them: that is idempotent.
        """
        try:
            await self._write_revocations(store, epoch)
        finally:
            await self._exchanges.write_back(store)

    async def _write_revocations(self, store: Store, epoch: str) -> None:
        if not self._lacking:
            return
        async with store.turn() as is_ours:
            while self._lacking and await is_ours():
                some = list(islice(self._lacking.values(), _WRITTEN_AT_ONCE))
                missing = await store.missing(some)
                if missing:
                    await store.writes.write(missing, epoch)
                    self._counters.repaired += len(missing)
                    logger.warning(
                        "revokebus has written back %d revocations that Redis had lost",
                        len(missing),
                        extra=event("repaired"),
                    )
                self.has(some)
