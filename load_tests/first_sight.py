"""A token that was never seen: what this library does beside checking the signature."""

from __future__ import annotations

import secrets

import jwt

from load_tests.measure import at_most, medians, seconds, tell
from revokebus import Settings
from revokebus.clock import SystemClock
from revokebus.issuer import Issuer
from revokebus.verifier import Verifier

ROUNDS = 100
TOKENS = 200
BAR = 1.25


def main() -> None:
    """Decode the same tokens with PyJWT alone."""
    secret = secrets.token_urlsafe(64)
    settings = Settings(secret_key=secret, redis_url="memory://", verified_cache_size=0)
    clock = SystemClock()
    issuer, verifier = Issuer(settings, clock), Verifier(settings, clock)
    tokens = [issuer.issue("alice", scopes=["read"]).access_token for _ in range(TOKENS)]

    def ours() -> None:
        for token in tokens:
            verifier.verify(token)

    def theirs() -> None:
        for token in tokens:
            jwt.decode(token, secret, algorithms=["HS256"])

    took = medians(
        ROUNDS,
        {"ours": lambda: seconds(ours), "PyJWT": lambda: seconds(theirs)},
    )
    microseconds = {name: each / TOKENS * 1e6 for name, each in took.items()}
    tell(
        at_most(
            "first sight of a token, HS256, no cache",
            "PyJWT's decode",
            microseconds["ours"],
            microseconds["PyJWT"],
            "µs",
            BAR,
        )
    )


if __name__ == "__main__":
    main()
