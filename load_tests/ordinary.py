"""What a service does every day: refreshing, clocks that differ, log-outs at once, many users.

Counts are of what goes wrong, and must be 0; times are ratios within one run.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import statistics
import time
from typing import TYPE_CHECKING

import jwt
import redis.asyncio

from load_tests.measure import absolute, at_least, at_most, log_errors_only, progress, tell
from revokebus import AccessToken, RefreshToken, RevokeBus, RevokeBusError, Settings
from revokebus.clock import SystemClock
from revokebus.errors import UnavailableError
from revokebus.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus import TokenPair

DAY_USERS, DAY_REFRESHES = 2_000, 5
STALL_SECONDS, STALL_USERS = 1.2, 20
SKEWS = (0.0, 0.05, 0.1, 0.5, 1.0, 5.0)
FIRST_REQUESTS, SIGN_OUTS = 40, 15
LOG_OUTS, ROUNDS = 5_000, 5
MOST_CONNECTIONS = 4
USERS, FEW_USERS, CACHE_BYTES = 100_000, 1_000, 64 * 1024 * 1024
SAMPLE = 20_000


class OffClock(SystemClock):
    """A machine whose wall clock is off."""

    def __init__(self, seconds: float) -> None:
        self.wall = lambda: time.time() + seconds


def settings(url: str, **changes: object) -> Settings:
    """Return the defaults, with a secret of this run."""
    return Settings.model_validate({"redis_url": url, "secret_key": SECRET, **changes})


SECRET = secrets.token_urlsafe(64)


def main() -> None:
    """Measure each part, on a server of its own."""
    parts = (refreshes, stall, clocks, log_outs)
    for number, part in enumerate(parts):
        progress(number / (len(parts) + 1))
        with RedisServer() as server:
            asyncio.run(part(server))
    progress(len(parts) / (len(parts) + 1))
    asyncio.run(many_users())


async def refreshes(server: RedisServer) -> None:
    """Tell how many entries the copies have after a day of refreshing, compressed."""
    async with RevokeBus(settings(server.url)) as bus, RevokeBus(settings(server.url)) as other:
        pairs = [bus.issue(f"user {number}") for number in range(DAY_USERS)]
        for _ in range(DAY_REFRESHES):
            pairs = [await refreshed(bus, pair) for pair in pairs]
        entries = bus.status().entries + other.status().entries
    what = f"entries in two copies after {DAY_USERS * DAY_REFRESHES:,} refreshes"
    tell(absolute(what, entries, "", 0))


async def refreshed(bus: RevokeBus, pair: TokenPair) -> TokenPair:
    """Return the pair that follows."""
    return await bus.rotate(await bus.authenticate(pair.refresh_token, RefreshToken))


async def stall(server: RedisServer) -> None:
    """Tell how many sessions a stall of Redis ends, where clients ask again as they are told."""
    async with RevokeBus(settings(server.url)) as bus:
        pairs = [bus.issue(f"user {number}") for number in range(STALL_USERS)]
        server.freeze()
        asking = [asyncio.create_task(patient(bus, pair)) for pair in pairs]
        await asyncio.sleep(STALL_SECONDS)
        server.thaw()
        lost = sum(not survived for survived in await asyncio.gather(*asking))
    what = f"sessions lost by a stall of {STALL_SECONDS:g} s while {STALL_USERS} users refresh"
    tell(absolute(what, lost, "", 0))


async def patient(bus: RevokeBus, pair: TokenPair) -> bool:
    """Refresh, again after a 503, and return whether the session goes on."""
    for _ in range(10):
        try:
            new = await refreshed(bus, pair)
            await bus.authenticate(new.access_token, AccessToken)
            await refreshed(bus, new)
        except UnavailableError:
            await asyncio.sleep(1)
        except RevokeBusError:
            return False
        else:
            return True
    return False


async def clocks(server: RedisServer) -> None:
    """Tell what clocks that differ cost: first requests refused, and tokens that survive."""
    refused = survived = late = 0
    for skew in SKEWS:
        async with (
            RevokeBus(settings(server.url), clock=OffClock(-skew)) as behind,
            RevokeBus(settings(server.url)) as ahead,
        ):
            for one, other in ((ahead, behind), (behind, ahead)):
                for number in range(FIRST_REQUESTS):
                    token = one.issue(f"user {number}").access_token
                    refused += not await accepted(other, token)
                for number in range(SIGN_OUTS):
                    old = one.issue(f"user {number}").access_token
                    await other.revoke_subject(f"user {number}", confirm="fleet", timeout=10)
                    survived += await accepted(one, old) + await accepted(other, old)
                    new = one.issue(f"user {number}").access_token
                    late += not await accepted(other, new)
    of = f"at clock skews of 0 to {SKEWS[-1]:g} s"
    tell(absolute(f"first requests refused {of}", refused, "", 0))
    tell(absolute(f"tokens that survive a sign-out {of}", survived, "", 0))
    tell(absolute(f"sign-ins after it that are refused {of}", late, "", 0))


async def accepted(bus: RevokeBus, token: str) -> bool:
    """Return whether a token opens a route."""
    try:
        await bus.authenticate(token, AccessToken)
    except RevokeBusError:
        return False
    return True


async def log_outs(server: RedisServer) -> None:
    """Tell what becomes of 5,000 log-outs in one moment, against SETEX in one pipeline.

    And what 5,000 tasks take that wait for an answer each and do nothing else: as many callers
    are tasks, whatever they call.
    """
    ours, idle, theirs, failed, held = [], [], [], 0, 0
    async with (
        RevokeBus(settings(server.url)) as bus,
        redis.asyncio.Redis(host=server.host, port=server.port) as client,
    ):
        for part in range(ROUNDS):
            tokens = await signed_in(bus, f"round {part}", LOG_OUTS)
            began = time.perf_counter()
            done = await asyncio.gather(*map(bus.revoke, tokens), return_exceptions=True)
            ours.append(LOG_OUTS / (time.perf_counter() - began))
            failed += sum(isinstance(each, BaseException) for each in done)
            began = time.perf_counter()
            await asyncio.gather(*map(answered, tokens))
            idle.append(LOG_OUTS / (time.perf_counter() - began))
            clients = await client.client_list()
            held = max(held, len(clients) - 1)
            async with client.pipeline(transaction=False) as pipe:
                for token in tokens:
                    pipe.set(f"theirs:{token.jti}", "1", ex=900)
                began = time.perf_counter()
                await pipe.execute()
                theirs.append(LOG_OUTS / (time.perf_counter() - began))
    tell(absolute(f"errors of {LOG_OUTS:,} log-outs at once", failed, "", 0))
    tell(absolute("connections held after them", held, "", MOST_CONNECTIONS))
    for what, figures, bar in (
        (f"{LOG_OUTS:,} log-outs at once", ours, 0.5),
        (f"{LOG_OUTS:,} tasks that wait and do nothing", idle, None),
    ):
        against = "SET with EX in one redis-py pipeline"
        medians = statistics.median(figures), statistics.median(theirs)
        tell(at_least(what, against, *medians, "/s", bar))


async def answered(token: AccessToken) -> None:
    """Wait until the event loop has come round."""
    answer: asyncio.Future[AccessToken] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.set_result, token)
    await answer


async def signed_in(bus: RevokeBus, name: str, count: int) -> list[AccessToken]:
    """Return the tokens of so many users."""
    pairs = [bus.issue(f"{name}: {number}") for number in range(count)]
    return [await bus.authenticate(pair.access_token, AccessToken) for pair in pairs]


async def many_users() -> None:
    """Tell what a check costs with many users, against PyJWT's decode."""
    turns = (
        (USERS, "in turn", range(USERS), 0.6),
        (USERS, "some much more often", by_zipf(USERS), 0.25),
        (FEW_USERS, "in turn", list(range(FEW_USERS)) * 20, None),
    )
    for users, group in itertools.groupby(turns, key=lambda turn: turn[0]):
        options = {"verified_cache_size": CACHE_BYTES} if users == USERS else {}
        async with RevokeBus(settings("memory://", **options)) as bus:
            tokens = [bus.issue(f"user {number}").access_token for number in range(users)]
            await checked(bus, tokens, range(users))
            for _, how, order, bar in group:
                ours, theirs = [], []
                for _ in range(ROUNDS):
                    ours.append(await checked(bus, tokens, order))
                    theirs.append(decoded(tokens, order))
                what = f"a check, {users:,} users {how}"
                figures = statistics.median(ours) * 1e6, statistics.median(theirs) * 1e6
                tell(at_most(what, "PyJWT's decode", *figures, "µs", bar))


def by_zipf(count: int) -> list[int]:
    """Return users in an order in which the n-th most frequent comes 1/n as often."""
    weights = [1 / (number + 1) for number in range(count)]
    return random.Random(1).choices(range(count), weights, k=count)


async def checked(bus: RevokeBus, tokens: Sequence[str], order: Sequence[int]) -> float:
    """Return for how many seconds a check takes, as a guard does it."""
    headers = [[(b"authorization", b"Bearer " + token.encode())] for token in tokens]
    began = time.perf_counter()
    for user in order:
        if bus.cached_token(headers[user], AccessToken) is None:
            await bus.authenticate(tokens[user], AccessToken)
    return (time.perf_counter() - began) / len(order)


def decoded(tokens: Sequence[str], order: Sequence[int]) -> float:
    """Return for how many seconds PyJWT decodes one of them."""
    sample = order[:SAMPLE]
    began = time.perf_counter()
    for user in sample:
        jwt.decode(tokens[user], SECRET, algorithms=["HS256"])
    return (time.perf_counter() - began) / len(sample)


if __name__ == "__main__":
    log_errors_only()
    main()
