"""The names that this project uses in Redis.

All share the hash tag ``{namespace}``, so that one script may touch them on a cluster.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from revokebus.revocation import Revocation


class Keys:
    """The names within one namespace.

    Args:
        namespace: The prefix.

    Attributes:
        meta: What the data set is called, and since when it is there.
        log: The change feed.
        channel: Where changes are published.
        hold: As long as it lives, nobody takes the copy for proven.
        repair: The lock of whoever writes back what Redis has lost.
        heartbeat: Shows that this instance lives; a new name for each `Keys`.
        records: A pattern that matches every record.
    """

    def __init__(self, namespace: str) -> None:
        self._tag = f"{{{namespace}}}"
        self.meta, self.log = f"{self._tag}:meta", f"{self._tag}:log"
        self.channel = f"{self._tag}:ch"
        self.hold = f"{self._tag}:hold"
        self.repair = f"{self._tag}:repair"
        self.heartbeat = f"{self._tag}:hb:{secrets.token_hex(8)}"
        self.records = f"{self._tag}:r:*"

    @property
    def data_set(self) -> list[str]:
        """What a script needs that may have to make a data set."""
        return [self.meta, self.log, self.hold]

    def record(self, revocation: Revocation) -> bytes:
        """Return the key of a revocation's record.

        The claim's name is quoted, because a name may contain the colon that ends it.
        """
        key = f"{self._tag}:r:{quote(revocation.claim, safe='')}:{revocation.value}"
        return key.encode("utf-8", "surrogatepass")
