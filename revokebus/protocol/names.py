"""The names that this project uses in Redis.

All share the hash tag ``{namespace}``, so that one script may touch them on a cluster.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from revokebus.protocol.revocation import Target


class Names:
    """The names within one namespace.

    Args:
        namespace: The prefix.

    Attributes:
        meta: What the data set is called, and since when it is there.
        log: The change feed.
        channel: Where changes are published.
        hold: As long as it lives, nobody takes the copy for proven.
        repair: The lock of whoever writes back what Redis has lost.
        instance: What this instance is called: another name for each `Names`.
        instances: The heartbeats of all instances, some of which may have ended.
        facts: What does not change of them.
        starts: Which instances list everything at the moment.
        bookmarks: The lock of the instance that writes bookmarks.
        records: A pattern that matches every record.
    """

    def __init__(self, namespace: str) -> None:
        self._tag = f"{{{namespace}}}"
        self.meta, self.log = f"{self._tag}:meta", f"{self._tag}:log"
        self.channel = f"{self._tag}:ch"
        self.hold = f"{self._tag}:hold"
        self.repair = f"{self._tag}:repair"
        self.instance = secrets.token_hex(8)
        self.instances = f"{self._tag}:instances"
        self.facts = f"{self._tag}:facts"
        self.starts = f"{self._tag}:starts"
        self.bookmarks = f"{self._tag}:bookmarks"
        self.records = f"{self._tag}:r:*"

    @property
    def data_set(self) -> list[str]:
        """What a script needs that may have to make a data set."""
        return [self.meta, self.log, self.hold]

    def record(self, target: Target) -> bytes:
        """Return the key of a revocation's record.

        The issuer and the claim's name are quoted, because they may contain what ends them:
        ``r:jti:value``, ``r:tenant=number:42``, ``r:sub@https%3A%2F%2Fidp.example:value``.
        """
        about = _about(target.claim, target.kind, target.issuer)
        return f"{self._tag}:r:{about}:{target.text}".encode("utf-8", "surrogatepass")

    def answers(self, inquiry: str) -> str:
        """Return the channel on which the question `inquiry` is answered."""
        return f"{self._tag}:ack:{inquiry}"

    def session(self, session: Target) -> bytes:
        """Return the key of what is kept of a session that refreshes."""
        return self._of("s", session)

    def user(self, user: Target) -> bytes:
        """Return the key of the list of a user's sessions."""
        return self._of("u", user)

    def _of(self, kind: str, whose: Target) -> bytes:
        at = f"@{quote(whose.issuer, safe='', errors='surrogatepass')}" if whose.issuer else ""
        return f"{self._tag}:{kind}{at}:{whose.text}".encode("utf-8", "surrogatepass")


@lru_cache(maxsize=256)
def _about(claim: str, kind: str, issuer: str) -> str:
    about = quote(claim, safe="", errors="surrogatepass")
    if kind != "string":
        about += f"={kind}"
    if issuer:
        about += f"@{quote(issuer, safe='', errors='surrogatepass')}"
    return about
