"""The published keys of an outside issuer: fetched, kept, and fetched again."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from revokebus.errors import InvalidTokenError, KeysUnavailableError
from revokebus.keys.fetch import Fetcher
from revokebus.keys.key_set import LocalKeySet, published_keys
from revokebus.tasks import end
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import jwt

    from revokebus.clock import Clock

logger = logging.getLogger("revokebus")

LIFETIME_SECONDS = 300.0
"""After that long the keys are fetched again, so that one that was withdrawn stops counting."""

COOLDOWN_SECONDS = 10.0
"""Tokens with unknown key ids cause one fetch within that time, however many they are."""

DEADLINE_SECONDS = 5.0
"""A fetch that takes longer has failed."""


class UnknownKeyError(InvalidTokenError):
    """No known key of the issuer can have signed the token.

    Attributes:
        key_set: Where another one may have been published.
    """

    def __init__(self, key_set: RemoteKeySet) -> None:
        super().__init__()
        self.key_set = key_set


class RemoteKeySet:
    """The `KeySet` behind a ``jwks_url``.

    What was fetched last is used until a later fetch succeeds. Nothing is fetched by `find`.

    Args:
        url: Where the JWK Set is.
        algorithms: The algorithms that are accepted.
        clock: Tells how much time has passed.
        on_change: Is called when other keys than before were fetched.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self._url = url
        self._fetcher = Fetcher(url)
        self._algorithms = algorithms
        self._clock = clock
        self._on_change = on_change
        self._document: object = None
        self._keys: LocalKeySet | None = None
        self._tried_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Return the keys that a token with that header may have been signed with.

        Raises:
            UnknownKeyError: There is none; another one may have been published.
        """
        found = self._keys.find(kid, algorithm) if self._keys else ()
        if not found:
            raise UnknownKeyError(self)
        return found

    def start(self) -> None:
        """Fetch the keys, and again every `LIFETIME_SECONDS` from now on."""
        self._tried_at = -math.inf
        self._task = asyncio.create_task(self._keep(), name="revokebus-jwks")

    async def stop(self) -> None:
        """End what `start` began."""
        tasks = [task for task in (self._task, self._fetching) if task is not None]
        self._task = self._fetching = None
        await end(tasks)

    async def _keep(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(LIFETIME_SECONDS if self._keys else COOLDOWN_SECONDS)

    async def refresh(self) -> None:
        """Fetch the keys, if that was not tried within `COOLDOWN_SECONDS`; a failure is logged."""
        if self._fetching is None or self._fetching.done():
            if self._clock.elapsed() - self._tried_at < COOLDOWN_SECONDS:
                return
            self._tried_at = self._clock.elapsed()
            self._fetching = asyncio.create_task(self._fetch(), name="revokebus-jwks-fetch")
        # Shared by all who wait; one who is cancelled does not end it for the others.
        await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                document = await self._fetcher.fetch()
            keys = published_keys(document, self._algorithms)
            if not keys:
                raise ValueError("it has no key that can be used")
        except Exception as error:  # noqa: BLE001 - the last known keys are good whatever it was
            logger.warning(
                "revokebus: the keys at %s cannot be fetched, %s: %s",
                self._url.partition("?")[0],
                "those fetched before are used" if self._keys else "and none are known",
                str(error) or type(error).__name__,
                extra=event("keys_not_fetched"),
            )
            return
        if document != self._document:
            self._document, self._keys = document, LocalKeySet(keys)
            self._on_change()

    def require_known(self) -> None:
        """Check that some keys were fetched.

        Raises:
            KeysUnavailableError: None ever was.
        """
        if self._keys is None:
            raise KeysUnavailableError("The keys of the token's issuer cannot be fetched")
