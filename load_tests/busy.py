"""The latency of a protected endpoint while five thousand tokens are revoked in a second."""

from __future__ import annotations

import secrets
import statistics
import time

import httpx2

from load_tests.measure import at_most, log_errors_only, tell, track
from load_tests.revocations import LOG
from load_tests.stalls import Writer
from load_tests.writer import PORTIONS_A_SECOND
from load_tests.wrk import Load, load
from revokebus.testing import AppServer, RedisServer

A_SECOND = 5_000
ROUNDS = 6
SECONDS = 2.0
BAR = 2.0
PORTION = A_SECOND // PORTIONS_A_SECOND
_CONNECTIONS = 4


def main() -> None:
    """Measure with the writer frozen, and with it at work, in turn."""
    quiet: list[Load] = []
    busy: list[Load] = []
    with RedisServer() as redis:
        settings = {"BENCH_SECRET": secrets.token_urlsafe(64), "BENCH_REDIS_URL": redis.url}
        with (
            AppServer("load_tests.peers.guarded:app", settings) as app,
            Writer(redis.url, A_SECOND) as writer,
        ):
            login = httpx2.post(f"{app.url}/login").raise_for_status()
            token, url = login.json()["access_token"], f"{app.url}/protected"
            while not portions(redis):
                time.sleep(0.05)
            load(url, token, SECONDS, _CONNECTIONS)  # not counted
            for _ in track(ROUNDS):
                before, began = portions(redis), time.perf_counter()
                busy.append(load(url, token, SECONDS, _CONNECTIONS))
                rate = PORTION * (portions(redis) - before) / (time.perf_counter() - began)
                writer.check_rate(rate)
                writer.freeze()
                quiet.append(load(url, token, SECONDS, _CONNECTIONS))
                writer.thaw()
    ours, theirs = (statistics.median(each.p99 for each in loads) * 1e3 for loads in (busy, quiet))
    what = f"p99 over HTTP while applying {A_SECOND:,} a second"
    tell(at_most(what, "the same without", ours, theirs, "ms", BAR))


def portions(redis: RedisServer) -> int:
    """Return how often the writer has revoked something: each time is one row of the log."""
    with redis.client() as client:
        rows: int = client.xlen(LOG)
    return rows


if __name__ == "__main__":
    log_errors_only()
    main()
