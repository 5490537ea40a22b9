"""What is revoked in this process and not yet recorded in Redis."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.revocation import Revocation
    from revokebus.store import Store, Written

logger = logging.getLogger("revokebus")

_SAVED_AT_ONCE = 5000


class Unsaved:
    """The revocations that are still to be written."""

    def __init__(self) -> None:
        self._revocations: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._revocations)

    def add(self, revocations: Iterable[Revocation]) -> None:
        """Remember `revocations`; of two for the same tokens the one that lives longer."""
        for each in revocations:
            known = self._revocations.get((each.claim, each.value))
            if known is None or known.expires_at < each.expires_at:
                self._revocations[each.claim, each.value] = each

    def holds(self, revocation: Revocation) -> bool:
        """Return whether the claim and value of `revocation` are still to be written."""
        return (revocation.claim, revocation.value) in self._revocations

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
        logger.info("revokebus has written %d revocations that were unsaved", len(some))
        return written
