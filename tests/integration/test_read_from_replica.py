"""Copies that are kept fresh from a replica of Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken
from revokebus.bookmarks.follower import Follower
from revokebus.bookmarks.marker import Marker
from revokebus.engine.engine import Engine
from revokebus.errors import StaleError
from revokebus.protocol.bookmark import decode_bookmark
from revokebus.testing import ClusterServers, RedisServer, SentinelServers
from revokebus.testing.link import Link
from revokebus.testing.process import wait_until
from revokebus.testing.redis_server import follows
from tests.support import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from revokebus.protocol.bookmark import Bookmark
    from revokebus.protocol.continuity import Position
    from revokebus.settings.settings import Settings
    from tests.support import Eventually, MakeSettings

META, CHANNEL, LOG = "{revokebus}:meta", "{revokebus}:ch", "{revokebus}:log"


class Pair:
    """A primary, and a replica that copies it through a link.

    Attributes:
        primary: The former.
        replica: The latter.
        link: The way between them.
        asked: The way of the instances to the primary.
    """

    def __init__(self, binary: str) -> None:
        self.primary = RedisServer(binary, {"repl-diskless-sync-delay": "0"})
        self.replica = RedisServer(binary, {"repl-timeout": "60"})
        self.link = Link(*self.primary.address)
        self.asked = Link(*self.primary.address)

    def follow(self) -> None:
        """Have the replica follow, and wait until it has a copy."""
        with self.replica.client() as client:
            client.replicaof(*self.link.url.removeprefix("redis://").removesuffix("/0").split(":"))
        wait_until(lambda: follows(self.replica), "the replica has a copy")


@pytest.fixture
def pair(redis_binary: str) -> Iterator[Pair]:
    pair = Pair(redis_binary)
    with pair.primary, pair.replica, pair.link, pair.asked:
        pair.follow()
        settle(pair.primary)
        yield pair


@pytest.fixture
def settings(pair: Pair, make_settings: MakeSettings) -> MakeSettings:
    """Settings of instances that read from the replica."""

    def make(redis_url: str = "", **changes: Any) -> Settings:
        where = {"read_from": pair.replica.url, "max_staleness": 8.0, "tick_interval": 0.1}
        return make_settings(redis_url or pair.asked.url, **{**where, **changes})

    return make


def follower(engine: Engine) -> Follower:
    found: Follower | None = engine._backend._running().reader._follower  # type: ignore[attr-defined]  # Redis's
    assert found is not None
    return found


def marker(engine: Engine) -> Marker:
    found: Marker | None = engine._backend._running().marker  # type: ignore[attr-defined]  # Redis's
    assert found is not None
    return found


def calls(client: redis.Redis, command: str) -> int:
    """Return how often a server was sent a command by clients."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def is_proven_by_replica(engine: Engine) -> bool:
    return follower(engine)._proven_at > 0


async def token_of(engine: Engine, subject: str = "alice") -> AccessToken:
    return await engine.authenticate(engine.issue(subject).access_token, AccessToken)


async def test_ticks_and_pushes_come_from_the_replica(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """The primary would have to tell each instance of each revocation, and answer each tick."""
    async with Engine(settings()) as one, Engine(settings()) as other:
        await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
        with pair.primary.client() as primary, pair.replica.client() as replica:
            assert dict(primary.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 0}
            assert dict(replica.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 2}
            before = calls(primary, "evalsha"), calls(replica, "evalsha")
            await eventually(lambda: calls(replica, "evalsha") > before[1] + 40)
            # Bookmarks alone, two a second, and a heartbeat perhaps.
            assert calls(primary, "evalsha") < before[0] + 15
        token = await token_of(one)
        await one.revoke(token)
        await eventually(lambda: other.is_revoked(token.claims))
        receipt = await one.revoke_session("s", confirm="fleet", timeout=5.0)
        assert [each.outcome for each in receipt.confirmations or ()] == ["applied", "applied"]
        for engine in (one, other):
            assert (engine.status().staleness or 9) < 1.5
            assert engine.status().last_error is None


async def test_a_start_lists_at_the_replica(pair: Pair, settings: MakeSettings) -> None:
    """A deployment in another region would send all revocations there once for each process."""
    async with Engine(settings()) as one:
        tokens = [await token_of(one, f"user-{number}") for number in range(20)]
        for token in tokens:
            await one.revoke(token)
        with pair.primary.client() as client:
            before = calls(client, "scan")
            async with Engine(settings()) as late:
                assert late.status().state == "fresh"
                assert all(late.is_revoked(token.claims) for token in tokens)
                assert calls(client, "scan") == before
    with pair.replica.client() as client:
        assert calls(client, "scan") > 0


@pytest.mark.parametrize("how", ["cut off", "silent"])
async def test_a_replica_that_is_behind_is_not_believed(
    pair: Pair, settings: MakeSettings, eventually: Eventually, how: str
) -> None:
    """What was revoked since would be accepted for as long as the replica is cut off."""
    async with Engine(settings()) as one, Engine(settings()) as other:
        await eventually(lambda: is_proven_by_replica(other))
        _part(pair.link, how)
        token = await token_of(one)
        await one.revoke(token)
        await eventually(lambda: "replica: is behind the primary" in str(other.status().last_error))
        await eventually(lambda: other.is_revoked(token.claims))
        assert other.status().state == "fresh"  # by the primary
        pair.link.heal()
        pair.link.cut()
        await eventually(lambda: other.status().last_error is None)
        assert (other.status().staleness or 9) < 1.5


async def test_a_replica_alone_proves_nothing_new(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """An instance cut off from the primary would go on by a replica that is cut off as well."""
    async with Engine(settings(max_staleness=2.0)) as engine:
        await eventually(lambda: is_proven_by_replica(engine))
        pair.link.forget()
        pair.asked.partition()
        await eventually(lambda: engine.status().state == "stale")
        with pytest.raises(StaleError):
            await token_of(engine)


async def test_a_replica_that_has_another_data_set_is_not_followed(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """A replica that was restarted empty would be taken for a loss of everything."""
    async with Engine(settings()) as one, Engine(settings()) as other:
        await eventually(lambda: is_proven_by_replica(other))
        resyncs = other.counts.resyncs.total()
        with pair.replica.client() as client:
            client.replicaof("NO", "ONE")
            client.flushall()
        token = await token_of(one)
        await one.revoke(token)
        await eventually(lambda: other.is_revoked(token.claims))
        assert other.status().state == "fresh"
        pair.follow()
        known = follower(other)._proven_at
        await eventually(lambda: follower(other)._proven_at > known)
        assert not follower(other).trouble
        assert other.counts.resyncs.total() == resyncs
        assert other.status().state == "fresh"


async def test_what_the_primary_loses_is_written_back(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """Instances that ask a replica alone would not notice that the primary was flushed."""
    async with Engine(settings()) as one, Engine(settings()) as other:
        token = await token_of(one)
        await one.revoke(token)
        await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
        with pair.primary.client() as client:
            client.flushall()
            await eventually(lambda: client.keys("{revokebus}:r:*"))
        async with Engine(settings()) as late:
            assert late.is_revoked(token.claims)
        await eventually(lambda: one.status().state == other.status().state == "fresh")


async def test_another_instance_writes_bookmarks_where_the_first_has_ended(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """The end of one process would leave the whole fleet without a proof by the replica."""
    async with Engine(settings()) as other:
        async with Engine(settings()) as one:
            await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
            assert marker(one)._has_turn + marker(other)._has_turn == 1
            marker(other)._has_turn = False  # so that it would have to notice
            marker(other)._measured = None
        with pair.primary.client() as client:
            known = bookmark(client)
            assert known is not None
            await eventually(lambda: marker(other)._has_turn)
            await eventually(lambda: bookmark(client) != known)
        assert (other.status().staleness or 9) < 8.0


async def test_no_bookmark_is_made_during_a_hold(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """What others are about to write back would be missing from copies that are called fresh."""
    async with Engine(settings()) as engine:
        await eventually(lambda: is_proven_by_replica(engine))
        with pair.primary.client() as client:
            client.set("{revokebus}:hold", "1", px=900)
            known = bookmark(client)
            await eventually(lambda: not client.exists("{revokebus}:hold"))
            assert bookmark(client) == known
            await eventually(lambda: bookmark(client) != known)


def bookmark(client: redis.Redis) -> Bookmark | None:
    text = client.hget(META, "bookmark")
    assert isinstance(text, bytes)
    return decode_bookmark(text)


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_a_replica_is_found(
    sentinels: SentinelServers,
    cluster: ClusterServers,
    make_settings: MakeSettings,
    eventually: Eventually,
    kind: str,
) -> None:
    """Its address would have to be known, and be changed with each failover."""
    servers = sentinels if kind == "sentinel" else cluster
    settle(servers.primary)
    settings = make_settings(servers.url, read_from="replica", tick_interval=0.1)
    async with Engine(settings) as one, Engine(settings) as other:
        await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
        with servers.primary.client() as client:
            assert dict(client.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 0}
        token = await token_of(one)
        await one.revoke(token)
        await eventually(lambda: other.is_revoked(token.claims))
        assert one.status().last_error is None


@pytest.mark.parametrize("which", ["primary", "replica"])
async def test_a_failover_while_a_replica_is_read(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually, which: str
) -> None:
    """Copies would go by a server that is no longer told anything, or be stale until a restart."""
    options = {"replica-priority": "100"}
    with SentinelServers(redis_binary, options, replicas=2) as servers:
        settle(servers.primary)
        settings = make_settings(servers.url, read_from="replica", tick_interval=0.1)
        async with Engine(settings) as one, Engine(settings) as other:
            await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
            before = await token_of(one)
            await one.revoke(before)
            await eventually(lambda: other.is_revoked(before.claims))
            old = servers.primary
            if which == "replica":
                reading = read_from(one)
                next(each for each in servers.servers if each.address == reading).kill()
            else:
                old.kill()
                await asyncio.to_thread(servers.wait_for_failover, old)
            token = await _revoked(one, eventually)
            await eventually(lambda: other.is_revoked(token.claims))
            await eventually(lambda: one.status().state == other.status().state == "fresh")
            await eventually(lambda: not follower(one).trouble and not follower(other).trouble)
            assert one.is_revoked(before.claims)
            assert other.is_revoked(before.claims)


async def _revoked(engine: Engine, eventually: Eventually) -> AccessToken:
    await eventually(lambda: engine.status().state == "fresh")
    token = await token_of(engine)
    await engine.revoke(token)
    return token


def _part(link: Link, how: str) -> None:
    if how == "silent":
        link.forget()
    else:
        link.partition()


async def test_a_server_that_is_no_replica_is_said_to_be_none(
    settings: MakeSettings, redis_binary: str, eventually: Eventually
) -> None:
    """A slip in the URL would cost the primary every tick, and no one would know."""
    with RedisServer(redis_binary) as another:
        settle(another)
        async with Engine(settings(read_from=another.url)) as engine:
            text = "replica: has another data set than the primary"
            await eventually(lambda: text in str(engine.status().last_error))
            assert engine.status().state == "fresh"


async def test_another_replica_is_read_where_one_is_cut_off(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Instances would stay with a replica that is told nothing any more."""
    with SentinelServers(redis_binary, replicas=2) as servers:
        settle(servers.primary)
        settings = make_settings(servers.url, read_from="replica", tick_interval=0.1)
        async with Engine(settings) as engine:
            await eventually(lambda: is_proven_by_replica(engine))
            first = read_from(engine)
            (replica,) = [each for each in servers.servers if each.address == first]
            with replica.client() as client:
                client.replicaof("127.0.0.1", 1)
            await eventually(lambda: read_from(engine) not in (first, None))
            assert read_from(engine) != servers.primary.address
            known = follower(engine)._proven_at
            await eventually(lambda: follower(engine)._proven_at > known)
            assert engine.status().last_error is None


async def test_one_instance_alone_writes_bookmarks(
    settings: MakeSettings, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a fleet whose ticks are far apart would ask the primary whether it is their turn."""
    asked: Counter[Marker] = Counter()
    mark = Marker._mark

    async def counted(self: Marker) -> bool:
        asked[self] += 1
        return await mark(self)

    monkeypatch.setattr(Marker, "_mark", counted)
    slow = settings(tick_interval=2.0, max_staleness=20.0)
    async with Engine(slow) as one, Engine(slow) as two, Engine(slow) as three:
        await eventually(lambda: sum(marker(each)._has_turn for each in (one, two, three)) == 1)
        asked.clear()
        await eventually(lambda: max(asked.values(), default=0) > 8)
        assert max(sorted(asked.values())[:-1], default=0) <= 1  # at its start


async def test_an_instance_that_no_one_confirms_gives_up_its_turn(
    settings: MakeSettings, eventually: Eventually
) -> None:
    """Bookmarks would prove nothing new to anyone for as long as it writes them."""
    async with Engine(settings()) as one, Engine(settings()) as other:
        await eventually(lambda: is_proven_by_replica(one) and is_proven_by_replica(other))
        holder, next_one = (one, other) if marker(one)._has_turn else (other, one)
        marker(holder)._requests.primary.confirmed_at = 0.0
        await eventually(lambda: marker(next_one)._has_turn and not marker(holder)._has_turn)
        known = follower(next_one)._proven_at
        await eventually(lambda: follower(next_one)._proven_at > known)
        assert "bookmarks: neither" in str(holder.status().last_error)


async def test_a_replica_of_a_cluster_by_its_address(
    cluster: ClusterServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A replica in one's own zone would send every question to the primary elsewhere."""
    settle(cluster.primary)
    found = make_settings(cluster.url, read_from="replica", tick_interval=0.1)
    async with Engine(found) as engine:
        await eventually(lambda: is_proven_by_replica(engine))
        host, port = read_from(engine) or ("", 0)
    settings = make_settings(cluster.url, read_from=f"redis://{host}:{port}", tick_interval=0.1)
    async with Engine(settings) as engine:
        await eventually(lambda: is_proven_by_replica(engine))
        assert engine.status().last_error is None


async def test_a_start_lists_no_replica_that_is_behind(
    pair: Pair, settings: MakeSettings, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy would lack for good what was revoked while a balancer leads to another replica."""

    async def anywhere(_self: Follower, _position: Position) -> bool:
        return True  # the one that was looked at was another one

    async with Engine(settings()) as one:
        await eventually(lambda: is_proven_by_replica(one))
        pair.link.forget()
        token = await token_of(one)
        await one.revoke(token)
        monkeypatch.setattr(Follower, "can_list", anywhere)
        async with Engine(settings(startup_timeout=0.5)) as late:
            assert late.status().state == "starting"
            assert "is behind the primary" in str(late.status().last_error)
            with pytest.raises(StaleError):
                await late.authenticate(one.issue("bob").access_token, AccessToken)


def read_from(engine: Engine) -> tuple[str, int] | None:
    server = follower(engine)._requests.primary._server
    return server.address if server else None


async def test_revocations_are_heard_at_the_primary_where_the_replica_is_away(
    pair: Pair, settings: MakeSettings, eventually: Eventually
) -> None:
    """A revocation would arrive with the next tick only, seconds later in a large fleet."""
    async with Engine(settings()) as engine:
        await eventually(lambda: is_proven_by_replica(engine))
        pair.replica.kill()
        with pair.primary.client() as client:
            await eventually(lambda: dict(client.pubsub_numsub(CHANNEL))[CHANNEL.encode()] == 1)
        await eventually(lambda: engine.status().subscribed)
