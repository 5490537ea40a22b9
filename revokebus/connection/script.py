"""A Lua script, and how a server is asked to run it."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.connection.client import Client

Argument = bytes | str | float
"""What can be sent to a script beside the keys."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which a server that has seen it knows it.

    Attributes:
        text: The Lua source.
        sha: Its SHA-1, which is Redis's name for it and protects nothing.
    """

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the script with this source."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(
        self, redis: Client, keys: Sequence[bytes | str], args: Sequence[Argument]
    ) -> Any:
        """Run the script on a server, whether it has seen it before or not.

        Raises:
            redis.RedisError: The server refuses, or is away.
        """
        known, words = ("EVALSHA", self.sha), (len(keys), *keys, *args)
        try:
            return await redis.call((*known, *words))
        except NoScriptError:
            pass
        if self.sha in redis.scripts_sent:  # by another call, before this one on the connection
            with contextlib.suppress(NoScriptError):
                return await redis.call((*known, *words))
        redis.scripts_sent.add(self.sha)
        try:
            return await redis.call(("EVAL", self.text, *words))
        finally:
            redis.scripts_sent.discard(self.sha)
