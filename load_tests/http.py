"""A protected endpoint over HTTP, one uvicorn worker each, beside what people use instead."""

from __future__ import annotations

import secrets

import httpx2

from load_tests.measure import at_least, log_errors_only, medians, tell
from load_tests.wrk import load
from revokebus.testing import AppServer, RedisServer, serving

PEERS = {
    "bare": "bare",
    "an empty dependency": "empty_dependency",
    "RevokeBus": "guarded",
    "PyJWT and a set, by hand": "local_set",
    "PyJWT and a Redis GET, by hand": "redis_get",
    "authx 1.7.1": "with_authx",
    "async-fastapi-jwt-auth 0.6.6": "with_async_fork",
}
BARS = {"bare": 0.85, "PyJWT and a set, by hand": 1.8, "PyJWT and a Redis GET, by hand": 3.0}
ROUNDS = 13
SECONDS = 1.0


def main() -> None:
    """Send the same load to each, in turn."""
    with RedisServer() as redis:
        settings = {"BENCH_SECRET": secrets.token_urlsafe(64), "BENCH_REDIS_URL": redis.url}
        servers = {
            name: AppServer(f"load_tests.peers.{module}:app", settings)
            for name, module in PEERS.items()
        }
        with serving(*servers.values()):
            tokens = {
                name: httpx2.post(f"{server.url}/login").raise_for_status().json()["access_token"]
                for name, server in servers.items()
            }
            for name in ("bare", "an empty dependency"):  # what they do not read is as long
                tokens[name] = tokens["RevokeBus"]
            rates = medians(
                ROUNDS,
                {
                    name: lambda name=name: (
                        load(  # type: ignore[misc]  # mypy cannot infer it
                            f"{servers[name].url}/protected", tokens[name], SECONDS
                        ).rate
                    )
                    for name in servers
                },
            )
    ours = rates.pop("RevokeBus")
    for name, rate in rates.items():
        what = "protected endpoint over HTTP"
        tell(at_least(what, name, ours, rate, "/s", BARS.get(name)))


if __name__ == "__main__":
    log_errors_only()
    main()
