"""The latency of a protected endpoint while five thousand tokens are revoked in a second."""

from __future__ import annotations

import secrets
import statistics

import httpx2

from load_tests.measure import at_most, tell, track
from load_tests.stalls import Writer
from load_tests.wrk import Load, load
from revokebus.testing import AppServer, RedisServer

A_SECOND = 5_000
ROUNDS = 6
SECONDS = 2.0
BAR = 2.0
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
            for _ in track(ROUNDS):
                busy.append(load(url, token, SECONDS, _CONNECTIONS))
                writer.freeze()
                quiet.append(load(url, token, SECONDS, _CONNECTIONS))
                writer.thaw()
    ours, theirs = (statistics.median(each.p99 for each in loads) * 1e3 for loads in (busy, quiet))
    what = f"p99 over HTTP while applying {A_SECOND:,} a second"
    tell(at_most(what, "the same without", ours, theirs, "ms", BAR))


if __name__ == "__main__":
    main()
