"""What tests import from each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

from revokebus.protocol.wire import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus import Settings
    from revokebus.testing import RedisServer

    Eventually = Callable[[Callable[[], object]], Awaitable[None]]


def settle(redis_server: RedisServer, namespace: str = "revokebus") -> None:
    """Make a data set that is old, so that a first start need not wait for others."""
    with redis_server.client() as client:
        server = client.info("server")["run_id"]
        meta = {
            "epoch": secrets.token_hex(16),
            "format": str(FORMAT_VERSION),
            "began": "1",
            "server": server,
        }
        client.hset(f"{{{namespace}}}:meta", mapping=meta)
        client.hset(f"{{{namespace}}}:instances", "since", "1000")


SECRET = secrets.token_urlsafe(64)


class MakeSettings(Protocol):
    def __call__(self, redis_url: str = "memory://", **changes: Any) -> Settings: ...
