"""What tests import from each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

from revokebus.protocol.cut_offs import CutOffs
from revokebus.protocol.wire import FORMAT_VERSION
from revokebus.telemetry.counters import Counters
from revokebus.tokens.issuer import Issuer
from revokebus.tokens.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus import AccessToken, RefreshToken, Settings
    from revokebus.clock import Clock
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


def make_issuer(settings: Settings, clock: Clock) -> Issuer:
    """Return an issuer that knows of no cut-off."""
    return Issuer(settings, clock, CutOffs(clock, settings.leeway))


def make_verifier(settings: Settings, clock: Clock) -> Verifier:
    """Return a verifier whose counters are not read."""
    return Verifier(settings, clock, Counters())


def verify(verifier: Verifier, encoded: str) -> AccessToken | RefreshToken:
    """Return the token that `encoded` is, if it is genuine and its time has come and not passed."""
    token = verifier.verify_signature(encoded)
    verifier.check_time(token)
    return token


SECRET = secrets.token_urlsafe(64)


class MakeSettings(Protocol):
    def __call__(self, redis_url: str = "memory://", **changes: Any) -> Settings: ...
