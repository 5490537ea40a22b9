"""What a request costs while Redis is frozen, against the same request while it is well.

Rounds of both alternate, on one connection to one uvicorn worker, so that the machine's moods fall
on both alike. A round of the outage begins when Redis has missed some of the instance's deadlines.
"""

from __future__ import annotations

import secrets
import statistics
import time

import httpx2

from load_tests.measure import at_most, log_errors_only, percentile, tell, track
from revokebus.testing import AppServer, RedisServer

ROUNDS = 8
REQUESTS = 1_000
BAR = 1.25
# It is said when a quarter of max_staleness has passed.
_STALENESS, _UNTIL_NOTICED = 8.0, 2.5


def main() -> None:
    """Measure, and tell the medians of the rounds."""
    well: list[list[float]] = []
    frozen: list[list[float]] = []
    with RedisServer() as redis:
        settings = {
            "BENCH_SECRET": secrets.token_urlsafe(64),
            "BENCH_REDIS_URL": redis.url,
            "REVOKEBUS_MAX_STALENESS": str(_STALENESS),
        }
        with (
            AppServer("load_tests.peers.guarded:app", settings) as app,
            httpx2.Client(base_url=app.url, timeout=10) as client,
        ):
            token = client.post("/login").raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            one_round(client)  # not counted
            for _ in track(ROUNDS):
                well.append(one_round(client))
                redis.freeze()
                time.sleep(_UNTIL_NOTICED)
                frozen.append(one_round(client))
                redis.thaw()
                time.sleep(_UNTIL_NOTICED)
            assert "proof: no proof for more than" in app.printed(), app.printed()
    for percent, bar in ((50, BAR), (99, None)):
        ours, theirs = (
            statistics.median(percentile(times, percent) for times in rounds) * 1e3
            for rounds in (frozen, well)
        )
        what = f"a request while Redis is frozen, p{percent}"
        tell(at_most(what, "while it is well", ours, theirs, "ms", bar))


def one_round(client: httpx2.Client) -> list[float]:
    """Return how long each request of a round took, in seconds."""
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.get("/protected").raise_for_status()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    log_errors_only()
    main()
