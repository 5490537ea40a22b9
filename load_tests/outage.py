"""What a request costs while Redis is frozen, against the same request while it is well.

Rounds of both alternate in one run, on one connection to one uvicorn worker, so that the
machine's moods fall on both alike. ``make bench`` runs it. The exit status is 1 if a median is
worse by more than the bar.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import time

import httpx2
from rich.console import Console
from rich.progress import track
from rich.table import Table

from revokebus.testing import AppServer, RedisServer

ROUNDS = 12
REQUESTS = 250
BAR = 1.25
PERCENTILES = {"median": 50, "99th percentile": 99}


def main() -> int:
    """Measure, print the table, and return the exit status."""
    with RedisServer() as redis:
        settings = {
            "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
            "REVOKEBUS_REDIS_URL": redis.url,
        }
        with AppServer("examples.redis_app:app", settings) as app:
            well, frozen = measure(app, redis)
    table = Table(title=f"Milliseconds a request, {ROUNDS} rounds of {REQUESTS} each")
    for heading in ("", "Redis well", "Redis frozen", "ratio"):
        table.add_column(heading, justify="right")
    ratios = []
    for name, percentile in PERCENTILES.items():
        one, other = (
            statistics.median(statistics.quantiles(times, n=100)[percentile - 1] for times in part)
            for part in (well, frozen)
        )
        ratios.append(other / one)
        table.add_row(name, f"{one * 1000:.3f}", f"{other * 1000:.3f}", f"{ratios[-1]:.2f}")
    console = Console()
    console.print(table)
    console.print(f"Bar for the median: {BAR}")
    return int(ratios[0] > BAR)


def measure(app: AppServer, redis: RedisServer) -> tuple[list[list[float]], list[list[float]]]:
    """Return the times of each round, in seconds: with Redis well, and frozen."""
    well: list[list[float]] = []
    frozen: list[list[float]] = []
    body = {"username": "alice", "password": "wonderland"}
    with httpx2.Client(base_url=app.url, timeout=10) as client:
        token = client.post("/login", json=body).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        one_round(client)  # not counted
        for _ in track(range(ROUNDS), "Measuring"):
            well.append(one_round(client))
            redis.freeze()
            frozen.append(one_round(client))
            redis.thaw()
    return well, frozen


def one_round(client: httpx2.Client) -> list[float]:
    """Return how long each request of a round took, in seconds."""
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.get("/protected").raise_for_status()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    sys.exit(main())
