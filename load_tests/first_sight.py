"""A token that was never seen: what this library does beside checking the signature.

Once the verification alone, and once all that a request with such a token causes: it is looked up,
and remembered.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import jwt

from load_tests.measure import at_most, log_errors_only, medians, seconds, tell
from revokebus import AccessToken, Settings
from revokebus.clock import SystemClock
from revokebus.engine.engine import Engine
from revokebus.protocol.cut_offs import CutOffs
from revokebus.protocol.fleet import Fleet
from revokebus.telemetry.counters import Counters
from revokebus.tokens.issuer import Issuer
from revokebus.tokens.verifier import Verifier

ROUNDS = 100
TOKENS = 200
BAR = 1.25


def main() -> None:
    """Decode the same tokens with PyJWT alone."""
    loop = asyncio.new_event_loop()
    secret = secrets.token_urlsafe(64)
    settings = Settings(secret_key=secret, redis_url="memory://")
    clock = SystemClock()
    fleet = Fleet(clock, leeway=0.0, longest_life=settings.longest_life, is_alone=True)
    issuer = Issuer(settings, clock, CutOffs(clock, settings.leeway), fleet)
    without_cache = settings.model_copy(update={"verified_cache_size": 0})
    verifier = Verifier(without_cache, clock, Counters())
    engine = Engine(settings)
    loop.run_until_complete(engine.start())
    tokens = [issuer.issue("alice", scopes=["read"]).access_token for _ in range(TOKENS)]

    def verified() -> None:
        for token in tokens:
            verifier.check_time(verifier.verify_signature(token))

    async def authenticated(new: list[str]) -> float:
        began = time.perf_counter()
        for token in new:
            await engine.authenticate(token, AccessToken)
        return time.perf_counter() - began

    def whole() -> float:
        new = [issuer.issue("alice", scopes=["read"]).access_token for _ in range(TOKENS)]
        return loop.run_until_complete(authenticated(new))

    def decoded() -> None:
        for token in tokens:
            jwt.decode(token, secret, algorithms=["HS256"])

    took = medians(
        ROUNDS,
        {
            "verified": lambda: seconds(verified),
            "whole": whole,
            "PyJWT": lambda: seconds(decoded),
        },
    )
    cost = {name: each / TOKENS * 1e6 for name, each in took.items()}
    what, against = "first sight of a token, HS256", "PyJWT's decode"
    tell(at_most(f"{what}, no cache", against, cost["verified"], cost["PyJWT"], "µs", BAR))
    note = "with the look-up, and remembering it"
    tell(at_most(f"{what}, all of it", against, cost["whole"], cost["PyJWT"], "µs", None, note))


if __name__ == "__main__":
    log_errors_only()
    main()
