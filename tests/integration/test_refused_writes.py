"""A primary that accepts no writes, and is the primary all the same."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from revokebus import AccessToken
from revokebus.connection.discovery import make_discovery
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError, RefusedError
from revokebus.settings.redis_url import parse_redis_url
from revokebus.testing import ClusterServers, RedisServer, SentinelServers
from tests.support import settle

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from tests.support import Eventually, MakeSettings

FAST = {"tick_interval": 0.1, "redis_timeout": 0.4}
META = "{revokebus}:meta"


@pytest.fixture(params=["sentinel", "cluster"])
def confirmed(
    request: pytest.FixtureRequest, sentinels: SentinelServers, cluster: ClusterServers
) -> SentinelServers | ClusterServers:
    """Servers of which others say who is the primary."""
    servers = sentinels if request.param == "sentinel" else cluster
    settle(servers.primary)
    return servers


@contextlib.contextmanager
def fenced(server: RedisServer) -> Iterator[None]:
    """Let a server accept no writes, as where its replicas are away."""
    with server.client() as client:
        client.config_set("min-replicas-to-write", 9)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


def freshness(engine: Engine) -> float:
    """Return the moment for which the copy is proven."""
    status = engine.status()
    assert status.staleness is not None
    return time.monotonic() - status.staleness


def proven(engine: Engine) -> int:
    ticks: Counter[str] = engine._backend._running().run.counters.ticks  # type: ignore[attr-defined]  # Redis's
    return ticks["proven"]


async def asked(engine: Engine, token: AccessToken) -> bool:
    """Ask Redis, as for a token that the copy knows nothing about."""
    targets, since = engine._checker._targets(token)
    return await engine._backend.refuses(targets, since)


async def refusing(engine: Engine, eventually: Eventually, times: int = 4) -> None:
    """Wait until Redis has answered so often that it accepts no writes."""
    await eventually(lambda: "writes: NOREPLICAS" in str(engine.status().last_error))
    seen = proven(engine)
    await eventually(lambda: proven(engine) >= seen + times)


async def test_copies_are_proven_while_replicas_are_away(
    confirmed: SentinelServers | ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """The restart of the only replica would be 503 for everyone."""
    settings = make_settings(confirmed.url, **FAST)
    async with Engine(settings) as one, Engine(settings) as other:
        token = await one.authenticate(one.issue("alice").access_token, AccessToken)
        before = await one.revoke_session("s")
        with fenced(confirmed.primary):
            await refusing(other, eventually)
            assert other.status().state == "fresh"
            assert (other.status().staleness or 9) < 2.0
            assert other.status().position == before.position  # whether it had been read or not
            with pytest.raises(NotDurableError):
                await one.revoke(token)
            await eventually(lambda: other.is_revoked(token.claims))
            assert one.status().unsaved == 1
        await eventually(lambda: one.status().unsaved == 0)
        await eventually(lambda: other.status().last_error is None)


async def test_what_was_written_last_is_read_nevertheless(
    confirmed: SentinelServers | ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """The revocation before the outage would keep every copy from being proven for as long."""
    settings = make_settings(confirmed.url, tick_interval=1.0)
    async with Engine(settings) as one, Engine(settings) as other:
        await eventually(lambda: other.status().state == "fresh")
        receipt = await one.revoke_session("s")
        with fenced(confirmed.primary):
            await refusing(other, eventually, times=1)
            assert other.status().position == receipt.position


async def test_redis_answers_questions_meanwhile(
    confirmed: SentinelServers | ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A copy beyond `max_entries` would answer 503 at once."""
    async with Engine(make_settings(confirmed.url, **FAST)) as engine:
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        other = await engine.authenticate(engine.issue("bob").access_token, AccessToken)
        await engine.revoke(token)
        with fenced(confirmed.primary):
            await refusing(engine, eventually, times=1)
            assert await asked(engine, token)
            assert not await asked(engine, other)


async def test_instances_are_not_all_known_for_a_while_after_it(
    confirmed: SentinelServers | ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """One that could send no heartbeat would not be counted, and accept tokens."""
    async with Engine(make_settings(confirmed.url, **FAST)) as engine:
        receipt = await engine.revoke_session("before", confirm="fleet", timeout=5)
        assert receipt.knows_all
        with fenced(confirmed.primary):
            await refusing(engine, eventually)
        await eventually(lambda: engine.status().last_error is None)
        receipt = await engine.revoke_session("after", confirm="fleet", timeout=1)
        assert not receipt.knows_all


async def test_a_minority_of_sentinels_is_not_enough(
    sentinels: SentinelServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A former primary that is cut off with one of them would be believed for ever."""
    settle(sentinels.primary)
    async with Engine(make_settings(sentinels.url, max_staleness=1.5, **FAST)) as engine:
        with contextlib.ExitStack() as stack:
            for each in sentinels.sentinels[:2]:
                each.freeze()
                stack.callback(each.thaw)
            stack.enter_context(fenced(sentinels.servers[0]))
            await eventually(lambda: engine.status().state == "stale")
            await eventually(lambda: "ticker: Redis: NOREPL" in str(engine.status().last_error))
            with pytest.raises(RefusedError, match="NOREPLICAS"):
                await engine._backend.refuses([], 0.0)


async def test_without_anyone_to_confirm_it_is_not_believed(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A former primary that knows that it is one would be believed for ever."""
    async with Engine(make_settings(redis_server.url, max_staleness=1.0, **FAST)) as engine:
        with fenced(redis_server):
            await eventually(lambda: engine.status().state == "stale")
            assert "ticker: Redis: NOREPLICAS" in str(engine.status().last_error)


@pytest.mark.parametrize("field", ["server", "loaded"])
async def test_what_would_have_to_be_noted_is_not_believed(
    confirmed: SentinelServers | ClusterServers,
    make_settings: MakeSettings,
    eventually: Eventually,
    field: str,
) -> None:
    """A server that was restored from a snapshot would be believed, and not be held."""
    settings = make_settings(confirmed.url, max_staleness=1.5, **FAST)
    async with Engine(settings) as engine:
        with confirmed.primary.client() as client:
            # In one step, so that no tick can come between and note it.
            with client.pipeline(transaction=True) as together:
                together.hset(META, field, "another")
                together.config_set("min-replicas-to-write", 9)
                together.execute()
            try:
                await eventually(lambda: engine.status().state == "stale")
                assert "ticker: Redis: NOREPLICAS" in str(engine.status().last_error)
            finally:
                client.config_set("min-replicas-to-write", 0)
        await eventually(lambda: engine.status().state == "fresh")


async def test_what_another_primary_may_have_acknowledged_is_not_believed_away(
    confirmed: SentinelServers | ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A primary that was deposed and promoted again may lack what was acknowledged in between."""
    settings = make_settings(confirmed.url, max_staleness=1.5, **FAST)
    async with Engine(settings) as engine:
        with fenced(confirmed.primary):
            await refusing(engine, eventually, times=1)
            store = engine._backend._running().redis.store  # type: ignore[attr-defined]  # Redis's
            epoch, address = store._primary.configuration
            store._written_under = epoch - 2, address
            await eventually(lambda: engine.status().state == "stale")
        await eventually(lambda: engine.status().state == "fresh")


async def test_what_was_lost_is_not_listed_again_and_again(
    confirmed: SentinelServers | ClusterServers,
    make_settings: MakeSettings,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log would fill with one line for each tick, as long as nothing can be written back."""
    settings = make_settings(confirmed.url, max_staleness=1.5, **FAST)
    async with Engine(settings) as engine:
        await engine.revoke_session("s")
        with confirmed.primary.client() as client:
            row = str(engine.status().position)
            with client.pipeline(transaction=True) as together:
                together.xdel("{revokebus}:log", row)
                together.config_set("min-replicas-to-write", 9)
                together.execute()
            try:
                await eventually(lambda: engine.status().state == "stale")
                assert caplog.text.count("lists all") <= 1
            finally:
                client.config_set("min-replicas-to-write", 0)
        await eventually(lambda: engine.status().state == "fresh")


async def test_a_node_with_two_addresses_votes_once(
    sentinels: SentinelServers, cluster: ClusterServers
) -> None:
    """One Sentinel that is cut off with a former primary would be a majority."""
    one, others = sentinels.sentinels[0], sentinels.sentinels[1:]
    with contextlib.ExitStack() as stack:
        for each in [*others, *(node for node in cluster.nodes if node is not cluster.primary)]:
            each.freeze()
            stack.callback(each.thaw)
        names = f"127.0.0.1:{one.port},localhost:{one.port},127.0.0.1:{others[0].port}"
        for url in (
            f"redis+sentinel://{names}/main",
            f"redis+sentinel://127.0.0.1:{one.port}/main",
            f"redis+cluster://127.0.0.1:{cluster.primary.port},localhost:{cluster.primary.port}",
        ):
            finder = make_discovery(parse_redis_url(url), "revokebus", 1.0)
            for known in (None, ("localhost", cluster.primary.port)):
                found = await finder.find(known)
                assert found is not None
                assert not found.is_agreed, url


async def test_most_voters_agree(sentinels: SentinelServers, cluster: ClusterServers) -> None:
    """A primary without replicas would never be believed."""
    for url in (sentinels.url, cluster.url):
        finder = make_discovery(parse_redis_url(url), "revokebus", 2.0)
        found = [await finder.find(None) for _ in range(10)]
        assert any(each is not None and each.is_agreed for each in found)


@pytest.fixture
def without_disk(redis_binary: str) -> Iterator[ClusterServers]:
    """A cluster of which the primary cannot save."""
    with ClusterServers(redis_binary, {"enable-protected-configs": "yes"}) as cluster:
        yield cluster


async def test_copies_are_proven_while_the_disk_is_full(
    without_disk: ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A snapshot that fails would be 503 for everyone, and end every subscription."""
    settle(without_disk.primary)
    async with Engine(make_settings(without_disk.url, max_staleness=20.0, **FAST)) as engine:
        await eventually(lambda: engine.status().subscribed)
        made = engine._backend._running().run.counters.subscriptions  # type: ignore[attr-defined]  # Redis's
        with without_disk.primary.client() as client:
            client.config_set("dir", "/proc")
            client.config_set("save", "1 1")
            client.bgsave()
            await eventually(lambda: "writes: MISCONF" in str(engine.status().last_error))
            seen, moment = proven(engine), freshness(engine)
            await eventually(lambda: proven(engine) >= seen + 30)  # PING is asked meanwhile
            await eventually(lambda: freshness(engine) > moment)
        assert engine.status().state == "fresh"
        assert engine.status().subscribed
        assert engine._backend._running().run.counters.subscriptions == made  # type: ignore[attr-defined]  # Redis's
