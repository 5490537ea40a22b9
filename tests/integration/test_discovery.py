from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus import AccessToken
from revokebus.clock import SystemClock
from revokebus.connection.client import client
from revokebus.connection.discovery import Claim, Found, make_discovery
from revokebus.connection.primary import Primary
from revokebus.engine.engine import Engine
from revokebus.errors import RevokedTokenError, StaleError
from revokebus.settings.redis_url import parse_redis_url
from revokebus.testing import ClusterServers, SentinelServers
from revokebus.testing.process import wait_until
from revokebus.testing.sentinel import SERVICE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from redis.asyncio import Redis

    from revokebus import Settings
    from revokebus.connection.discovery import Discovery
    from revokebus.settings.redis_url import Address
    from tests.support import Eventually, MakeSettings

DEADLINE = 2.0
NOWHERE = "127.0.0.1:1"


def discovery(url: str) -> Discovery:
    return make_discovery(parse_redis_url(url), "revokebus", DEADLINE)


async def primary_of(finder: Discovery) -> Address:
    found = await finder.find(None)
    assert found is not None
    return found.claim.address


async def test_sentinels_name_the_primary(sentinels: SentinelServers) -> None:
    """Nothing could be written."""
    assert await primary_of(discovery(sentinels.url)) == sentinels.servers[0].address


async def test_two_of_three_sentinels_are_enough(sentinels: SentinelServers) -> None:
    """The host of one Sentinel would be a single point of failure."""
    some = f"{NOWHERE},127.0.0.1:{sentinels.sentinels[1].port}"
    sentinels.sentinels[0].freeze()
    try:
        frozen = await primary_of(discovery(sentinels.url))
    finally:
        sentinels.sentinels[0].thaw()
    gone = await primary_of(discovery(f"redis+sentinel://{some}/main"))
    assert frozen == gone == sentinels.servers[0].address


async def test_a_service_that_sentinels_do_not_know_is_said(sentinels: SentinelServers) -> None:
    """A misspelt service would look like a broken network."""
    url = sentinels.url.replace("/main/", "/mian/")
    with pytest.raises(RedisConnectionError, match=r"'mian'.*No such master"):
        await primary_of(discovery(url))


async def test_the_owner_of_the_slot_is_found(cluster: ClusterServers) -> None:
    """Nothing could be written."""
    assert await primary_of(discovery(cluster.url)) == cluster.primary.address


async def test_nodes_are_learnt_from_each_other(cluster: ClusterServers) -> None:
    """An application would be lost when the one node that it was told of has gone."""
    known = cluster.nodes[0]
    finder = discovery(f"redis+cluster://127.0.0.1:{known.port}")
    owner = await primary_of(finder)
    known.freeze()
    try:
        found = await primary_of(finder)
    finally:
        known.thaw()
    assert found == owner == cluster.primary.address


async def test_a_slot_on_its_way_cannot_be_listed(cluster: ClusterServers) -> None:
    """An instance that starts meanwhile would take a part of the revocations for all."""
    finder = discovery(cluster.url)
    source = cluster.primary
    target = next(each for each in cluster.nodes[:3] if each is not source)
    async with client({}, source.address, DEADLINE) as there:
        await finder.check_whole(there)
        source.ask("SETSLOT", cluster.slot, "MIGRATING", target.node_id)
        try:
            with pytest.raises(RedisConnectionError, match="being moved"):
                await finder.check_whole(there)
        finally:
            source.ask("SETSLOT", cluster.slot, "STABLE")
    async with client({}, target.address, DEADLINE) as elsewhere:
        with pytest.raises(RedisConnectionError, match="being moved"):
            await finder.check_whole(elsewhere)


async def test_a_revocation_reaches_another_instance_by_sentinel(
    sentinels: SentinelServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Behind Sentinels nothing would be pushed, or a late starter would not know it."""
    await reaches_another_instance(make_settings(sentinels.url), eventually)


async def test_a_revocation_reaches_another_instance_in_a_cluster(
    cluster: ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """In a cluster nothing would be pushed, or a late starter would not know it."""
    await reaches_another_instance(make_settings(cluster.url), eventually)


async def reaches_another_instance(settings: Settings, eventually: Eventually) -> None:
    async with Engine(settings) as here, Engine(settings) as there:
        token = await there.authenticate(here.issue("alice").access_token, AccessToken)
        await eventually(lambda: there.status().subscribed)
        await here.revoke(token)
        await eventually(lambda: there.is_revoked({"jti": token.jti}))
        async with Engine(settings) as late:
            assert late.status().state == "fresh"
            assert late.is_revoked({"jti": token.jti})


async def test_without_sentinels_nothing_is_proven(
    sentinels: SentinelServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A deposed primary would go on proving that its copy is complete; or all would stand still."""
    settings = make_settings(
        sentinels.url, max_staleness=1.0, on_stale="ask_redis", redis_timeout=5.0
    )
    async with Engine(settings) as engine:
        pair = engine.issue("alice")
        for each in sentinels.sentinels:
            each.freeze()
        try:
            await eventually(lambda: engine.status().state == "stale")
            await engine.revoke(pair.access_token)  # the server that was known is still used
            with pytest.raises(StaleError):  # that it has no record of a revocation is no proof
                await engine.authenticate(engine.issue("bob").access_token, AccessToken)
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(pair.access_token, AccessToken)
        finally:
            for each in sentinels.sentinels:
                each.thaw()
        await eventually(lambda: engine.status().state == "fresh")


async def test_a_failover_that_is_under_way_names_the_new_primary(redis_binary: str) -> None:
    """A replica that is slow to follow would send writes back to the deposed primary."""
    servers = SentinelServers(redis_binary, replicas=2)
    old, new, slow = servers.servers
    slow._options["replica-priority"] = "0"  # never to be promoted
    with servers:
        finder = discovery(servers.url)
        for each in servers.sentinels:  # or they would give the replica that is slow up
            with each.client() as client:
                for name in ("failover-timeout", "down-after-milliseconds"):
                    client.execute_command("SENTINEL SET", SERVICE, name, 60_000)
        slow.freeze()
        with servers.sentinels[0].client() as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)
        wait_until(lambda: _named(servers) == [new.port] * 3, "all name the new primary")
        found = {await primary_of(finder) for _ in range(20)}
        flags = servers.sentinels[0].state()["flags"]
        slow.thaw()
        assert found == {new.address}
        assert old.running
        assert "failover_in_progress" in flags


async def test_an_answer_of_one_that_was_deposed_meanwhile_does_not_count(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """A primary that was frozen during a failover would acknowledge, as it wakes, what is lost."""
    clock = SlowClock()
    primary = Primary(make_settings(sentinels.url), clock)
    asked = []

    async def work(redis: Redis) -> str:
        asked.append(redis)
        if len(asked) == 1:  # it answers late, and Sentinels name another by then
            primary._discovery = Named(("127.0.0.1", sentinels.servers[1].port))
        return "done"

    try:
        assert await primary.run(work, again=True) == "done"
        assert asked[0] is not asked[-1]
        asked.clear()
        clock.step = 2.0  # for one that is known to be as far away as that
        primary._discovery = Named(sentinels.servers[1].address)
        with pytest.raises(RedisConnectionError, match="deposed"):
            await primary.run(swap(primary, sentinels.servers[0].address))
    finally:
        await primary.close()


def swap(primary: Primary, address: Address) -> Callable[[Redis], Awaitable[None]]:
    async def work(_: Redis) -> None:
        primary._discovery = Named(address)

    return work


class SlowClock(SystemClock):
    """Lets a moment pass whenever it is looked at."""

    def __init__(self) -> None:
        self._passed = 0.0
        self.step = 0.15

    def elapsed(self) -> float:
        self._passed += self.step
        return self._passed


class Named:
    """Names one server."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def find(self, known: Address | None) -> Found | None:  # noqa: ARG002 - Discovery's
        return Found(Claim(1, self._address), is_agreed=True)

    async def check_whole(self, redis: Redis) -> None:
        """Nothing is walked here."""

    def avoid(self, address: Address | None) -> None:
        """There is no other."""


def _named(servers: SentinelServers) -> list[int]:
    named = []
    for each in servers.sentinels:
        with each.client() as client:
            address = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
            named.append(int(address[1]))
    return named


class Counting:
    """Names the same server each time, and counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    async def find(self, known: Address | None) -> Found | None:  # noqa: ARG002 - Discovery's
        self.times += 1
        await asyncio.sleep(0)
        return None


async def test_many_that_fail_at_once_do_not_wait_for_each_other(
    make_settings: MakeSettings,
) -> None:
    """After a failover each of fifty requests would ask Sentinels anew, one after the other."""
    primary = Primary(make_settings("redis://127.0.0.1:1"), SystemClock())
    primary._discovery = counting = Counting()  # type: ignore[assignment]  # it checks nothing

    async def work(_: Redis) -> None:
        primary.doubt()  # as whoever fails meanwhile does
        raise RedisConnectionError("gone")

    try:
        await primary.server()
        counting.times = 0
        primary.doubt()
        tasks = [asyncio.create_task(primary.run(work)) for _ in range(50)]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert counting.times <= 3
    finally:
        await primary.close()


class Slow:
    """Names the same server each time, once it is allowed to."""

    def __init__(self) -> None:
        self.times = 0
        self.may = asyncio.Event()

    async def find(self, known: Address | None) -> Found | None:  # noqa: ARG002 - Discovery's
        self.times += 1
        await self.may.wait()
        return None


async def test_who_gives_up_does_not_take_the_question_along(make_settings: MakeSettings) -> None:
    """Far away each of a thousand requests would begin anew to ask, and none come to an end."""
    primary = Primary(make_settings("redis://127.0.0.1:1"), SystemClock())
    primary._discovery = slow = Slow()  # type: ignore[assignment]  # it checks nothing
    try:
        first, second = (asyncio.create_task(primary.server()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        slow.may.set()
        assert await second is await primary.server()
        assert first.cancelled()
        assert slow.times == 1
    finally:
        await primary.close()


async def test_a_request_does_not_wait_for_what_only_confirms(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """Every two seconds a request would take as long as Sentinels do."""
    clock = SlowClock()
    clock.step = 0.0
    primary = Primary(make_settings(sentinels.url), clock)
    try:
        known = await primary.server()
        clock.step = 10.0
        primary._discovery = slow = Slow()  # type: ignore[assignment]  # it checks nothing
        async with asyncio.timeout(5):
            assert await primary.server() is known
        ticks = asyncio.create_task(primary.server(confirmed=True))
        await asyncio.sleep(0)
        assert not ticks.done()
        slow.may.set()
        await ticks
        assert slow.times == 1
    finally:
        await primary.close()


async def test_an_answer_counts_for_the_server_that_has_given_it(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """What a deposed primary answers would be proven by a look-up that names the new one."""
    primary = Primary(make_settings(sentinels.url), SystemClock())

    async def work(_: Redis) -> None:
        primary._discovery = Named(("127.0.0.1", 1))
        primary.doubt()
        await primary.server()  # as another request does meanwhile

    try:
        with pytest.raises(RedisConnectionError, match="deposed meanwhile"):
            await primary.run(work)
    finally:
        await primary.close()


async def test_where_no_sentinel_answers_the_known_server_is_used(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """Every request would take its whole deadline, and fail, although Redis is well."""
    primary = Primary(make_settings(sentinels.url, redis_timeout=0.4), SystemClock())
    try:
        known = await primary.server()
        primary._discovery = Slow()  # type: ignore[assignment]  # it checks nothing
        primary.doubt()
        async with asyncio.timeout(5):  # it is never answered, so each of these has to give up
            assert await primary.server() is known
            assert await primary.server(confirmed=True) is known
    finally:
        await primary.close()


async def test_nothing_is_asked_any_more_after_the_end(make_settings: MakeSettings) -> None:
    """A request that tries again would leave a task behind that no one ends."""
    primary = Primary(make_settings("redis://127.0.0.1:1"), SystemClock())
    await primary.close()
    with pytest.raises(RedisConnectionError, match="closed"):
        await primary.server()
    assert not [task for task in asyncio.all_tasks() if "find-primary" in task.get_name()]


async def test_who_has_slept_asks_who_is_primary_before_it_asks_redis(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """After a suspension the first requests would be refused for want of a confirmation."""
    settings = make_settings(sentinels.url, on_stale="ask_redis")
    async with Engine(settings) as engine:
        primary = engine._backend._running().redis.store._primary  # type: ignore[attr-defined]  # Redis's
        primary.confirmed_at = -math.inf
        primary._due_at = -math.inf
        assert not await engine._backend.refuses([], 0.0)


@pytest.fixture(scope="module")
def named_cluster(redis_binary: str) -> Iterator[ClusterServers]:
    """Nodes that want to be called by a name, without TLS."""
    options = {
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
    }
    with ClusterServers(redis_binary, options) as cluster:
        yield cluster


async def test_nodes_are_called_as_they_want_to_be(
    named_cluster: ClusterServers, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Where only the names can be reached an instance would never start."""
    port = named_cluster.primary.port
    finder = discovery(named_cluster.url)
    assert await primary_of(finder) == ("localhost", port)
    assert ("localhost", port) in finder._learnt  # type: ignore[attr-defined]  # of a cluster
    other = next(each for each in named_cluster.nodes[:3] if each.port != port)
    async with Engine(make_settings(f"redis+cluster://127.0.0.1:{other.port}")) as engine:
        await engine.revoke_session("s")
        assert engine.status().state == "fresh"
    assert "another server" not in caplog.text  # MOVED has the name as well


async def test_without_the_right_to_names_addresses_are_used(
    named_cluster: ClusterServers,
) -> None:
    """An instance whose user may ask for less than before would not start any more."""
    for node in named_cluster.nodes:
        with node.client() as client:
            client.execute_command(
                *("ACL SETUSER", "narrow", "on", ">secret", "allkeys", "allchannels", "+@all"),
                *("-@dangerous", "+cluster|nodes", "-cluster|slots", "+info"),
            )
    url = named_cluster.url.replace("redis+cluster://", "redis+cluster://narrow:secret@")
    assert await primary_of(discovery(url)) == ("127.0.0.1", named_cluster.primary.port)
