"""Puts what comes from Redis into the copy; what is not ours is counted and left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from revokebus.errors import WireError
from revokebus.wire import decode_payload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.denylist import Denylist
    from revokebus.repair import Repair
    from revokebus.troubles import Troubles

    Source = Literal["message", "row", "record"]

_APPLIED_AT_ONCE = 500


class Applier:
    """Decodes payloads and adds their revocations.

    Args:
        denylist: The copy.
        repair: Is told what Redis has.
        troubles: Counts what is not ours.
    """

    def __init__(self, denylist: Denylist, repair: Repair, troubles: Troubles) -> None:
        self._denylist = denylist
        self._repair = repair
        self._troubles = troubles

    def apply(self, source: Source, payload: bytes | None) -> int:
        """Apply one payload and return how many revocations it carries.

        Args:
            source: Where it comes from. A message of the channel is no proof that Redis has it.
            payload: The bytes; None for a record that is no string.
        """
        try:
            revocations = decode_payload(payload if payload is not None else b"")
        except WireError as error:
            self._troubles.ignore(source, error.kind)
            return 0
        for revocation in revocations:
            self._denylist.add(revocation)
        if source == "record":
            self._repair.listed(revocations)
        if source != "message":
            self._repair.has(revocations)
        return len(revocations)

    async def apply_all(self, source: Source, payloads: Iterable[bytes | None]) -> None:
        """Apply many, letting requests through in between."""
        applied = 0
        for payload in payloads:
            applied += self.apply(source, payload)
            if applied >= _APPLIED_AT_ONCE:
                applied = 0
                await asyncio.sleep(0)
