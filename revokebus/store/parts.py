"""What there is one of for each Redis."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from revokebus.connection.primary import Place
from revokebus.connection.requests import Requests
from revokebus.protocol.names import Names
from revokebus.protocol.unseen_writes import UnseenWrites
from revokebus.store.instances import Instances
from revokebus.store.listing import Listing
from revokebus.store.store import Store

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class StoreParts:
    """The parts that share the connections to one Redis.

    Attributes:
        requests: Sends requests to the primary.
        reading: Sends them to where the copy is read from; the same, unless that is a replica.
        names: The names of everything in it.
        store: Writes and reads revocations.
        listing: Reads everything that is recorded.
        instances: Knows which instances there are.
        unseen_writes: What was written here and the log has yet to show.
    """

    requests: Requests
    reading: Requests
    names: Names
    store: Store
    listing: Listing
    instances: Instances
    unseen_writes: UnseenWrites

    @classmethod
    def of(
        cls, settings: Settings, clock: Clock, credentials: CredentialProvider | None = None
    ) -> Self:
        """Return the parts for the Redis of `settings`; no connection is made yet."""
        requests, names, unseen = (
            Requests(settings, clock, credentials),
            Names(settings.namespace),
            UnseenWrites(),
        )
        reading = requests
        if settings.reads_from_replica:
            place = Place.to_read(settings, credentials)
            reading = Requests(settings, clock, credentials, place)
        return cls(
            requests=requests,
            reading=reading,
            names=names,
            store=Store(settings, clock, requests, names, unseen, reading),
            listing=Listing(requests, names, settings),
            instances=Instances(settings, requests, names),
            unseen_writes=unseen,
        )

    async def close(self) -> None:
        """End every connection, whatever state it is in."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            if self.reading is not self.requests:
                stack.push_async_callback(self.reading.close)
            stack.push_async_callback(self.requests.close)
