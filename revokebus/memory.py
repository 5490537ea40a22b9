"""``memory://``: one process that shares nothing, so that its copy is the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from revokebus.revocation import Spending
from revokebus.upstream import Health, Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.denylist import Denylist
    from revokebus.report import Finding
    from revokebus.revocation import Revocation


class MemoryUpstream:
    """The `Upstream` of an application with one worker, and of tests.

    Args:
        denylist: The copy to write to.
    """

    def __init__(self, denylist: Denylist) -> None:
        self._denylist = denylist

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Do nothing."""

    async def write(self, revocations: Sequence[Revocation], min_replicas: int) -> Recorded:  # noqa: ARG002 - an Upstream's
        """Add `revocations` to the copy."""
        for revocation in revocations:
            self._denylist.add(revocation)
        return Recorded()

    async def spend(self, spent: Revocation, unless: Sequence[Revocation]) -> Spending:
        """Add `spent` if neither it nor any of `unless` is there."""
        if await self.has_record(unless):
            return Spending.REVOKED
        return Spending.GRANTED if self._denylist.add(spent) else Spending.SPENT

    async def has_record(self, revocations: Sequence[Revocation]) -> bool:
        """Return whether any of `revocations` is in the copy, which is all there is."""
        return any(self._denylist.holds(revocation) for revocation in revocations)

    async def audit(self) -> Sequence[Finding]:
        """Return nothing: there is nothing that could be set up wrongly."""
        return ()

    def age(self) -> float | None:
        """Return 0: the copy is the original."""
        return 0.0

    def health(self) -> Health:
        """Return that all is well."""
        return Health(staleness=0.0, subscribed=True)
