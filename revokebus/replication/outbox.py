"""What is revoked in this process and not yet recorded in Redis."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.store.store import Store, Written

logger = logging.getLogger("revokebus")

_SAVED_AT_ONCE = 5000


class Outbox:
    """The revocations that are still to be written."""

    def __init__(self) -> None:
        self._revocations: dict[Target, Revocation] = {}

    def __len__(self) -> int:
        return len(self._revocations)

    def add(self, revocations: Iterable[Revocation]) -> None:
        """Remember `revocations`; of two for the same tokens what both refuse."""
        for each in revocations:
            target = each.target
            self._revocations[target] = each.merged(self._revocations.get(target))

    def get(self, target: Target) -> Revocation | None:
        """Return what is still to be written for `target`."""
        return self._revocations.get(target)

    async def save(self, store: Store, epoch: str) -> Written | None:
        """Write some of them; return what became of it, or None where there are none.

        Args:
            store: Where to.
            epoch: The data set that is known there; any where it is empty.

        Raises:
            StoreError: They could not be written; they are kept.
        """
        some = dict(itertools.islice(self._revocations.items(), _SAVED_AT_ONCE))
        if not some:
            return None
        written = await store.write(list(some.values()), epoch)
        for key, revocation in some.items():
            if self._revocations.get(key) == revocation:  # not lengthened meanwhile
                del self._revocations[key]
        logger.info(
            "revokebus has written %d revocations that were unsaved",
            len(some),
            extra=event("unsaved_written"),
        )
        return written
