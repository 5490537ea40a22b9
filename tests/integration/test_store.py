from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from revokebus.clock import SystemClock
from revokebus.errors import OtherDataSetError, StoreError, UnsettledError
from revokebus.protocol.continuity import Entry, Position
from revokebus.protocol.exchange import Exchange, Exchanged, Outcome
from revokebus.protocol.heartbeat import (
    Facts,
    Heartbeat,
    describe,
    encode_facts,
    encode_heartbeat,
)
from revokebus.protocol.names import Names
from revokebus.protocol.revocation import Kept, Revocation, Target
from revokebus.protocol.wire import (
    DATA_VERSION,
    MAX_BYTES,
    decode_entry_id,
    decode_message,
    decode_payload,
    encode_entry_id,
    encode_payload,
)
from revokebus.scripts import exchanging, presence, writing
from revokebus.store.heartbeats import Told
from revokebus.store.listing import PAGE_ENTRIES, Listing
from revokebus.store.parts import StoreParts
from revokebus.store.writes import batches
from revokebus.testing import ManualClock, RedisServer
from tests.support import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis

    from revokebus.store.store import Store
    from tests.support import Eventually, MakeSettings

CLOCK = SystemClock()
SESSION = Target("", "sid", "string", "s")
EXCHANGE = Exchange(generation=0, jti="0", issued_at=1.0, since=1.5, life=60.0, note=b'["1"]')
ANY = ""
_NOTHING = "2 []"
BEAT = encode_heartbeat(Heartbeat("fresh", 0.5, "", None, 0, complete=True, owed=0))
FACTS = encode_facts(
    Facts(
        "1.0",
        "host",
        1,
        bound=30,
        accepts_stale=False,
        interval=0.5,
        longest_life=60,
        issuer="",
        checked_types=[],
        claims=[],
        leeway=0,
    )
)
LONG_AGO = 366 * 86_400


@pytest.fixture
def store(parts: StoreParts) -> Store:
    return parts.store


def revocation(value: str = "a", *, life: float = 60, claim: str = "jti") -> Revocation:
    return Revocation(claim, value, CLOCK.wall() + life)


async def everything(store: Store) -> list[bytes | None]:
    listing = Listing(store._requests, store._names, store._settings)
    return await rest_of(listing.records())


async def rest_of(walk: AsyncIterator[list[bytes | None]]) -> list[bytes | None]:
    return [payload async for payloads in walk for payload in payloads]


async def test_a_record_lives_as_long_as_the_token(store: Store, client: redis.Redis) -> None:
    """A cold start would miss a revocation whose token still works."""
    await store.writes.write([revocation(life=59.3)], ANY)
    ttl = client.ttl("{revokebus}:r:jti:a")
    assert ttl in (59, 60)
    assert client.pttl("{revokebus}:r:jti:a") > 59_300 - 1000


async def test_a_life_is_rounded_up(store: Store, client: redis.Redis) -> None:
    """A token would outlive its record by a part of a second."""
    await store.writes.write([revocation(life=0.2)], ANY)
    assert client.pttl("{revokebus}:r:jti:a") > 200


async def test_a_writer_with_a_fast_clock_does_not_shorten_a_record(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """One instance with a wrong clock would end other instances' revocations early."""
    clock = ManualClock()
    clock.step(+50)
    async with opened(make_settings(redis_server.url), clock) as parts:
        store = parts.store
        await store.writes.write([revocation(life=60)], ANY)
    assert client.ttl("{revokebus}:r:jti:a") >= 59


async def test_a_writer_with_a_slow_clock_is_believed(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """An instance that accepts a token longer would find no record of its revocation."""
    clock = ManualClock()
    clock.step(-50)
    async with opened(make_settings(redis_server.url), clock) as parts:
        store = parts.store
        await store.writes.write([revocation(life=60)], ANY)
    assert client.ttl("{revokebus}:r:jti:a") >= 109


async def test_a_life_is_never_shortened(store: Store, client: redis.Redis) -> None:
    """A second revocation would bring the token back before its expiry."""
    await store.writes.write([revocation(life=500)], ANY)
    await store.writes.write([revocation(life=5)], ANY)
    assert client.ttl("{revokebus}:r:jti:a") >= 499
    await store.writes.write([revocation(life=900)], ANY)
    assert client.ttl("{revokebus}:r:jti:a") >= 899


async def test_a_late_write_of_an_older_revocation_does_not_shorten_it(
    store: Store, client: redis.Redis
) -> None:
    """An instance that was cut off and now catches up would end a later revocation early."""
    later = revocation("a,]]", life=900)
    await store.writes.write([later], ANY)
    await store.writes.write([revocation("a,]]", life=60)], ANY)
    assert [decode_payload(payload or b"") for payload in await everything(store)] == [[later]]
    assert client.ttl("{revokebus}:r:jti:a,]]") >= 899


_KEPT = ["s", 's",1.0,"', "]]", "\\", "null", "é", "a,1,2,", ",1,"]
_VALUES = ["alice", 'a","b"],[1,2', "bob,1,", "carol,9999999999,", ",1,1,", "1,null]]", 7, True]
_ROWS = st.builds(
    Revocation,
    claim=st.just("sub"),
    value=st.just("?"),
    expires_at=st.sampled_from([3e9, 3e9 + 7]),
    issued_before=st.none() | st.integers(2, 9).map(lambda half: half / 2),
    issuer=st.just(""),
    kept=st.none() | st.builds(Kept, st.sampled_from(_KEPT), st.just(0.0)),
).map(lambda each: each if each.issued_before else each._replace(kept=None))


@given(
    rows=st.lists(_ROWS, min_size=1, max_size=5),
    value=st.sampled_from(_VALUES),
    issuer=st.sampled_from(["", "https://idp.example", "i,1,"]),
    since=st.integers(0, 8),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_redis_merges_as_the_copy_does(
    client: redis.Redis, rows: list[Revocation], value: Any, issuer: str, since: int
) -> None:
    """What an instance looks up in Redis would differ from what every copy says."""
    rows = [each._replace(value=value, issuer=issuer) for each in rows]
    write = client.register_script(writing.WRITE.text)
    names, target = Names(secrets.token_hex(4)), rows[0].target
    key, session = names.record(target), "{x}:s:s"
    merged = rows[0]
    for each in rows:
        text = encode_payload([each])
        args: list[Any] = ["e" * 32, DATA_VERSION, _NOTHING, 0, "", names.channel, 1000, text]
        write([*names.data_set, key], [*args, "", each.expires_at, 100])
        merged = each.merged(merged)
    assert decode_payload(client.get(key) or b"") == [merged]  # type: ignore[arg-type]  # redis-py's stubs
    client.delete(names.hold)
    exchange = client.register_script(exchanging.EXCHANGE.text)
    for sid in (*_KEPT, "other"):
        client.delete(session)
        args = [0, 0, "e" * 32, 0, 1.0, since + 0.25, "0", 30, 30, 60_000, '["1"]', 16, "j"]
        keys: list[bytes | str] = [names.meta, names.hold, names.repair, session, key]
        outcome, *_ = exchange(keys, [*args, json.dumps(sid)])
        claims = {"sub": merged.value, "sid": sid}
        refused = merged.refuses(claims, issuer=issuer, since=since + 0.25)
        assert outcome == (b"revoked" if refused else b"granted")


@pytest.mark.parametrize(
    "text",
    [
        '2 [["","sub","' + "1" * 200_000 + '",3000000000.0,5.5]]',
        '2 [["","sub","a",' + ',1,"' * 50_000,
        '2 [["","sub","a",' + ',1,1,"' * 40_000 + '",1]]',
        '2 [["","sub","a",' + "1," * 100_000 + "]]",
        "," * 200_000 + '",5]]',
    ],
)
def test_no_record_keeps_redis_busy(client: redis.Redis, text: str) -> None:
    """A user with an odd name, or a record that was planted, would stop Redis for minutes."""
    names = Names("x")
    write = client.register_script(writing.WRITE.text)
    exchange = client.register_script(exchanging.EXCHANGE.text)
    key = "{x}:r:sub:a"
    client.set(key, text, ex=600)
    args: list[Any] = ["e" * 32, DATA_VERSION, _NOTHING, 0, "", names.channel, 1000]
    row = encode_payload([Revocation("sub", "a", 3e9, 5.5)])
    client.connection_pool.connection_kwargs["socket_timeout"] = 3  # of minutes that it took
    args += [row, "", 3e9, 100]
    keys: list[bytes | str] = [names.meta, names.hold, names.repair, "{x}:s:s", key]
    more: list[Any] = [
        0,
        0,
        "",
        0,
        1.0,
        9.25,
        "0",
        30,
        30,
        60_000,
        '["1"]',
        16,
        "j",
        '"s"',
        "s",
        "",
    ]
    assert exchange(keys, more)[0] in (b"revoked", b"other")
    write([*names.data_set, key], args)


async def test_a_log_that_was_emptied_is_noticed(store: Store, client: redis.Redis) -> None:
    """An instance that began on an empty log would miss what was written and lost again."""
    before = await store.position()
    await store.writes.write([revocation()], ANY)
    client.delete("{revokebus}:log")
    page = await store.read(before)
    assert page.entries == []
    assert (await store.position()).entry != before.entry


async def test_a_full_redis_can_still_prove(store: Store, client: redis.Redis) -> None:
    """The fleet would answer 503 because Redis, which refuses writes, cannot note who lives."""
    await store.writes.write([revocation()], ANY)
    position = await store.position()
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match=r"(?i)memory"):
        await store.writes.write([revocation("b")], ANY)
    assert (await store.read(position)).entries == [position.entry]
    client.config_set("maxmemory", 0)


async def test_a_former_primary_cannot_prove(store: Store, client: redis.Redis) -> None:
    """An isolated primary would go on telling instances that nothing has been revoked."""
    position = await store.position()
    await store.read(position)
    client.config_set("min-replicas-to-write", 1)
    with pytest.raises(StoreError, match=r"(?i)replicas"):
        await store.read(position)


async def test_a_writer_that_may_not_publish_has_written(store: Store, client: redis.Redis) -> None:
    """A durable revocation would be reported as lost, and written again for ever."""
    await store.position()
    client.acl_setuser("default", enabled=True, reset_channels=True)
    written = await store.writes.write([revocation()], ANY)
    assert written.unheard  # in the words of this server
    assert len(await everything(store)) == 1


async def test_a_strangers_value_under_our_key_is_replaced(
    store: Store, client: redis.Redis
) -> None:
    """A revocation would not be durable because somebody had used its key."""
    for stray in ("string", "hash"):
        key = f"{{revokebus}}:r:jti:{stray}"
        client.set(key, "x", ex=9999) if stray == "string" else client.hset(key, "x", "y")
        mine = revocation(stray)
        await store.writes.write([mine], ANY)
        assert client.get(key) == encode_payload([mine])
        assert client.ttl(key) >= 59


async def test_log_message_and_record_say_the_same(store: Store, client: redis.Redis) -> None:
    """Instances that hear, read or list would hold different revocations."""
    before = await store.position()
    first, second = revocation("one"), revocation("two")
    pubsub = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no annotation
    pubsub.subscribe("{revokebus}:ch")
    assert pubsub.get_message(timeout=5)["type"] == "subscribe"
    writes = [await store.writes.write([first], ANY), await store.writes.write([second], ANY)]
    messages = [decode_message(pubsub.get_message(timeout=5)["data"]) for _ in range(2)]
    pubsub.close()
    page = await store.read(before)
    assert [decode_payload(entry.payload) for entry in page.entries[1:]] == [[first], [second]]
    assert [Entry(m.entry, m.payload) for m in messages] == page.entries[1:]
    assert [m.entry for m in messages] == [
        decode_entry_id(str(w.position).encode()) for w in writes
    ]
    assert messages[0].previous == before.entry.id
    assert messages[1].previous == messages[0].entry
    assert {m.epoch for m in messages} == {page.epoch} == {before.epoch}
    found = [r for payload in await everything(store) for r in decode_payload(payload or b"")]
    assert sorted(found, key=lambda r: r.value) == [first, second]


async def test_a_page_begins_with_the_position(store: Store) -> None:
    """A promoted replica with a shorter log could not be told from the old primary."""
    await store.writes.write([revocation("one")], ANY)
    position = await store.position()
    await store.writes.write([revocation("two")], ANY)
    page = await store.read(position)
    assert page.entries[0] == position.entry
    assert len(page.entries) == 2
    assert not page.more


async def test_a_long_log_is_read_in_pages(store: Store, client: redis.Redis) -> None:
    """An instance that was away for long would stop reading after the first page."""
    start = await store.position()
    with client.pipeline() as pipeline:
        for number in range(PAGE_ENTRIES + 5):
            pipeline.xadd("{revokebus}:log", {"r": encode_payload([revocation(str(number))])})
        pipeline.execute()
    page = await store.read(start)
    assert (len(page.entries), page.more) == (PAGE_ENTRIES, True)


async def test_the_log_is_trimmed_to_its_retention(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """The log would grow until Redis is full."""
    for _ in range(500):
        client.xadd("{revokebus}:log", {"r": b"1 []"}, id=b"1-*")
    async with opened(make_settings(redis_server.url, log_retention=1)) as parts:
        store = parts.store
        await store.writes.write([revocation()], ANY)
    assert client.xlen("{revokebus}:log") < 200


async def test_the_epoch_changes_with_the_data_set(store: Store, client: redis.Redis) -> None:
    """FLUSHALL would go unnoticed."""
    first = await store.position()
    assert (await store.position()).epoch == first.epoch
    client.flushall()
    assert (await store.read(first)).epoch == ""
    assert (await store.position()).epoch != first.epoch


async def test_another_format_is_refused(store: Store, client: redis.Redis) -> None:
    """A newer version's data would be taken for ours and read wrongly."""
    await store.position()
    client.hset("{revokebus}:meta", "format", "99")
    with pytest.raises(StoreError, match="format 99"):
        await store.writes.write([revocation()], ANY)
    with pytest.raises(StoreError, match="format 99"):
        await store.position()


async def test_a_format_that_changes_later_is_refused_too(
    store: Store, client: redis.Redis
) -> None:
    """An old instance would call itself fresh while a newer one writes what it cannot read."""
    position = await store.position()
    client.hset("{revokebus}:meta", "format", "99")
    with pytest.raises(StoreError, match="format b'99'"):
        await store.read(position)


@pytest.mark.parametrize(
    "value", ["auth0|x", "urn:uuid:1:2", "😀", "a b\n", "*", "}{", "\ud800", "é" * 4096]
)
async def test_any_value_is_recorded(store: Store, value: str) -> None:
    """An unusual identifier could not be revoked."""
    mine = revocation(value)
    await store.writes.write([mine], ANY)
    assert [decode_payload(p or b"") for p in await everything(store)] == [[mine]]


async def test_claims_and_values_with_colons_do_not_meet(store: Store) -> None:
    """One revocation would overwrite another's record."""
    both = [revocation("b:c", claim="a"), revocation("c", claim="a:b")]
    await store.writes.write(both, ANY)
    assert len(await everything(store)) == 2


async def test_namespaces_do_not_meet(
    redis_server: RedisServer, make_settings: MakeSettings, store: Store
) -> None:
    """Two applications on one Redis would revoke each other's tokens."""
    await store.writes.write([revocation()], ANY)
    async with opened(make_settings(redis_server.url, namespace="revokebus.2")) as other:
        assert await everything(other.store) == []
        assert decode_payload((await other.store.position()).entry.payload) == []


async def test_what_is_not_a_string_is_listed_as_none(store: Store, client: redis.Redis) -> None:
    """A list under our prefix would end every cold start with an error."""
    client.rpush("{revokebus}:r:jti:list", "x")
    await store.writes.write([revocation()], ANY)
    assert min(await everything(store), key=str) is None


async def test_a_claim_is_granted_once(store: Store) -> None:
    """A refresh token could be used twice at the same moment."""
    await store.position()
    many = [replace(EXCHANGE, note=b"%d" % number) for number in range(20)]
    attempts = [store.sessions.exchange(SESSION, each, [], ANY) for each in many]
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    granted = [end for end in ends if not isinstance(end, UnsettledError)]
    assert [each.outcome for each in granted if isinstance(each, Exchanged)] == [Outcome.GRANTED]
    assert len(granted) == 1


async def test_a_claim_is_refused_if_the_token_is_revoked(store: Store) -> None:
    """A refresh token revoked a moment ago elsewhere would still buy a new pair."""
    by_jti, by_sid = revocation("a"), revocation("s", claim="sid")
    await store.writes.write([by_sid], ANY)
    unless = [by_jti.target, by_sid.target]
    exchanged = await store.sessions.exchange(SESSION, EXCHANGE, unless, ANY)
    assert exchanged.outcome is Outcome.REVOKED
    assert await store.sessions.generation(SESSION) is None


async def test_an_exchange_leaves_one_small_record(store: Store, client: redis.Redis) -> None:
    """Ordinary use would fill the log, and with it every copy."""
    first = await store.position()
    for generation in range(50):
        note = b'["%d"]' % (generation + 1)
        each = replace(EXCHANGE, generation=generation, jti=str(generation), note=note)
        assert (await store.sessions.exchange(SESSION, each, [], ANY)).outcome is Outcome.GRANTED
        await store.sessions.delivered(SESSION, generation + 1)
    assert (await store.read(first)).entries == [first.entry]
    assert await everything(store) == []
    (key,) = [name for name in client.keys("*:s*") if b":s:" in name]
    assert client.strlen(key) < 400
    assert 0 < client.pttl(key) <= 60_000


@pytest.mark.parametrize("held", ["", "1", "1 x 2 n", "-1 d 1 n", "1 d  n", "nonsense"])
async def test_a_session_that_cannot_be_read_is_over(
    store: Store, client: redis.Redis, held: str
) -> None:
    """Foreign data under the key would let a used token through."""
    await store.position()
    client.set("{revokebus}:s:s", held)
    assert (await store.sessions.exchange(SESSION, EXCHANGE, [], ANY)).outcome is Outcome.REVOKED
    client.delete("{revokebus}:s:s")
    client.rpush("{revokebus}:s:s", held)
    assert (await store.sessions.exchange(SESSION, EXCHANGE, [], ANY)).outcome is Outcome.REVOKED


async def test_many_are_written_in_batches(store: Store) -> None:
    """A large revocation would hold Redis up, or be too long for any reader."""
    many = [revocation(str(number)) for number in range(1234)]
    start = await store.position()
    await store.writes.write(many, ANY)
    page = await store.read(start)
    assert [len(decode_payload(entry.payload)) for entry in page.entries] == [0, 500, 500, 234]
    assert len(await everything(store)) == 1234


def test_no_batch_is_longer_than_a_reader_accepts() -> None:
    """Revocations of very long identifiers would be written, and ignored by everybody."""
    many = [revocation("😀" * 8000 + str(number)) for number in range(50)]
    parts = [list(revocations) for revocations, _ in batches(many)]
    assert all(len(encode_payload(part)) <= MAX_BYTES for part in parts)
    assert [each for part in parts for each in part] == many


async def test_a_dead_server_is_a_store_error(store: Store, redis_server: RedisServer) -> None:
    """A revocation without Redis would end in an error of another library."""
    redis_server.kill()
    for attempt in (
        store.writes.write([revocation()], ANY),
        store.sessions.exchange(SESSION, EXCHANGE, [], ANY),
        store.position(),
    ):
        with pytest.raises(StoreError):
            await attempt


async def test_a_frozen_server_is_a_store_error_in_time(
    store: Store, redis_server: RedisServer
) -> None:
    """A log-out would hang as long as Redis does."""
    await store.writes.write([revocation()], ANY)
    redis_server.freeze()
    async with asyncio.timeout(5):
        for attempt in (store.writes.write([revocation()], ANY), store.position()):
            with pytest.raises(StoreError, match="within 1 s"):
                await attempt


async def test_a_restarted_server_costs_no_revocation(
    store: Store, redis_server: RedisServer
) -> None:
    """The first log-out after a restart of Redis would fail on an old connection."""
    await store.writes.write([revocation()], ANY)
    redis_server.stop()
    redis_server.start()
    await store.writes.write([revocation("b")], ANY)
    assert len(await everything(store)) == 1


async def test_the_heartbeat_says_who_lives(
    parts: StoreParts, store: Store, client: redis.Redis
) -> None:
    """Nobody could tell which instances there are, and a dead one would be counted for ever."""
    position = await store.position()
    assert (await store.read(position)).wants_heartbeat
    await parts.instances.beat(BEAT, FACTS)
    page = await store.read(position)
    assert (page.wants_heartbeat, page.instances) == (False, 1)
    known = await parts.instances.list()
    assert [*known.live] == [parts.instances.instance]
    await parts.instances.deregister()
    known = await parts.instances.list()
    assert not known.live
    assert known.ended == {parts.instances.instance}
    assert client.ttl("{revokebus}:instances") == -1  # or it could be evicted


def beat_of(sent: float, life: int, text: str) -> str:
    return f"{1000 * sent:.0f} {life} {text}"


async def test_whoever_asks_is_sent_heartbeats_for_a_while(
    parts: StoreParts, store: Store, client: redis.Redis
) -> None:
    """One that hears nothing could confirm nothing before its next heartbeat is due."""
    position = await store.position()
    await parts.instances.beat(BEAT, FACTS)
    await parts.instances.list()
    assert not (await store.read(position)).wants_heartbeat
    await parts.instances.list(asked=True)
    assert (await store.read(position)).wants_heartbeat
    client.hset("{revokebus}:meta", "asked", str(time.time() - 1))
    assert not (await store.read(position)).wants_heartbeat


async def quiet(store: Store) -> Position:
    """Return the position of an instance of which all is known."""
    position = await store.position()
    await store.read(position, Told(BEAT, FACTS))
    await store.read(position)
    return position


def calls(client: redis.Redis, *commands: str) -> list[int]:
    """Return how often each command was called, by clients and by scripts."""
    stats = client.info("commandstats")
    return [stats.get(f"cmdstat_{each}", {}).get("calls", 0) for each in commands]


async def test_a_quiet_tick_costs_little_and_writes_nothing(
    store: Store, client: redis.Redis
) -> None:
    """Redis would carry half as many instances, and send their ticks to disk and to replicas."""
    position = await quiet(store)
    client.config_resetstat()
    before = client.info("persistence")["rdb_changes_since_last_save"]
    for _ in range(5):
        page = await store.read(position)
        assert (page.epoch, page.entries) == (position.epoch, [position.entry])
        assert (page.instances, page.wants_heartbeat, page.more) == (1, False, False)
        assert page.longest_life > 2_592_000
        assert abs(page.time - time.time()) < 5
        assert page.server == client.info("server")["run_id"]
    assert calls(client, "evalsha", "hlen", "hset", "sha1hex") == [5, 0, 0, 0]
    assert client.info("persistence")["rdb_changes_since_last_save"] == before


CHANGES: dict[str, Callable[[redis.Redis], object]] = {
    "hold": lambda client: client.set("{revokebus}:hold", "1", px=60_000),
    "repair": lambda client: client.set("{revokebus}:repair", "1", px=60_000),
    "epoch": lambda client: client.hset("{revokebus}:meta", "epoch", "e" * 32),
    "server": lambda client: client.hset("{revokebus}:meta", "server", "f" * 40),
    "life": lambda client: client.hset(
        "{revokebus}:meta", mapping={"life": "99999999", "life_until": "9999999999"}
    ),
    "asked": lambda client: client.hset("{revokebus}:meta", "asked", str(time.time() + 5)),
    "heartbeats": lambda client: client.delete("{revokebus}:instances"),
    "row": lambda client: client.xadd("{revokebus}:log", {"r": _NOTHING}),
    "no meta": lambda client: client.delete("{revokebus}:meta"),
    "no log": lambda client: client.delete("{revokebus}:log"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_has_changed_is_in_the_next_answer(
    store: Store, client: redis.Redis, change: str
) -> None:
    """A copy would be called proven during a hold, or without what was revoked last."""
    position = await quiet(store)
    before = await store.read(position)
    CHANGES[change](client)
    after = await store.read(position)
    assert replace(after, time=before.time) != before


async def test_a_row_that_was_replaced_is_not_taken_for_the_same(
    store: Store, client: redis.Redis
) -> None:
    """A server that gives an id out twice would seem to have what it has lost."""
    position = await quiet(store)
    client.delete("{revokebus}:log")
    client.xadd(
        "{revokebus}:log",
        {"r": '2 [["","jti","x",1.0,null]]'},
        id=encode_entry_id(position.entry.id),
    )
    (entry,) = (await store.read(position)).entries
    assert entry.id == position.entry.id
    assert entry != position.entry


async def test_another_process_is_asked_who_it_is(store: Store, client: redis.Redis) -> None:
    """A server that was restored would be taken for the one from before by whoever reconnects."""
    position = await quiet(store)
    client.config_resetstat()
    await store.read(position)
    assert calls(client, "info") == [0]
    client.config_resetstat()
    client.client_kill_filter(_type="normal", skipme=True)
    await store.read(position)
    assert calls(client, "info") == [1]
    client.hset("{revokebus}:meta", "server", "f" * 40)
    client.client_kill_filter(_type="normal", skipme=True)
    assert (await store.read(position)).unsettled is not None


async def test_a_late_answer_counts(
    redis_server: RedisServer, store: Store, client: redis.Redis
) -> None:
    """A fleet that a server can just carry would not recover from a pause of a second."""
    position = await quiet(store)
    connected = client.info("stats")["total_connections_received"]
    redis_server.freeze()
    asking = asyncio.create_task(store.read(position))
    await asyncio.wait([asking], timeout=1.5)
    assert not asking.done()
    redis_server.thaw()
    assert (await asking).entries == [position.entry]
    # One more was tried in vain, which is none that is used.
    assert client.info("stats")["total_connections_received"] <= connected + 2
    await store.read(position)
    assert client.info("stats")["total_connections_received"] <= connected + 2


async def test_hundreds_of_instances_are_read_in_portions(
    parts: StoreParts, client: redis.Redis
) -> None:
    """Those after the first portion would not be asked, or Redis would stand still for all."""
    beat = beat_of(time.time(), 60, BEAT.decode())
    names = [f"{number:016x}" for number in range(1_234)]
    client.hset("{revokebus}:instances", mapping=dict.fromkeys(names, beat))
    client.hset("{revokebus}:facts", mapping=dict.fromkeys(names[:1_000], FACTS))
    client.config_resetstat()
    known = await parts.instances.list()
    assert sorted(known.live) == names
    assert sum(each.facts.version == "1.0" for each in known.live.values()) == 1_000
    assert calls(client, "hscan")[0] >= 8
    client.hset("{revokebus}:facts", mapping=dict.fromkeys(names, FACTS))
    await parts.instances.list()
    client.config_resetstat()
    await parts.instances.list()
    assert calls(client, "hmget") == [2]  # of the list's own; the facts are known


def test_one_that_has_come_back_is_not_forgotten(client: redis.Redis) -> None:
    """An instance that was paused for a minute would not be waited for."""
    client.hset("{revokebus}:instances", "a" * 16, "new")
    keys = ["{revokebus}:instances", "{revokebus}:facts"]
    client.eval(presence.FORGET.text, 2, *keys, "a" * 16, "old")
    assert client.hget(keys[0], "a" * 16) == b"new"
    client.eval(presence.FORGET.text, 2, *keys, "a" * 16, "new")
    assert not client.hexists(keys[0], "a" * 16)


async def test_a_question_is_one_step_where_nothing_is_recorded(
    store: Store, client: redis.Redis
) -> None:
    """Beyond max_entries each request of a fleet would cost Redis thirteen commands."""
    position = await quiet(store)
    targets = [Target("", "jti", "string", name) for name in "abcde"]
    assert not await store.refuses(targets, 1.0, position.epoch)  # looks what was loaded, too
    client.config_resetstat()
    assert not await store.refuses(targets, 1.0, position.epoch)
    assert calls(client, "evalsha", "exists", "get", "info", "hmget") == [1, 1, 0, 0, 1]
    client.set("{revokebus}:r:jti:c", "anything")
    assert await store.refuses(targets, 1.0, position.epoch)
    client.delete("{revokebus}:r:jti:c")
    client.set("{revokebus}:hold", "1", px=60_000)
    with pytest.raises(UnsettledError):
        await store.refuses(targets, 1.0, position.epoch)
    client.delete("{revokebus}:hold")
    client.hset("{revokebus}:meta", "server", "f" * 40)
    with pytest.raises(UnsettledError):
        await store.refuses(targets, 1.0, position.epoch)


async def test_the_dead_are_forgotten(parts: StoreParts, client: redis.Redis) -> None:
    """The list of instances would grow with each crash, for ever."""
    await parts.instances.beat(BEAT, FACTS)
    now = time.time()
    junk: dict[Any, Any] = {
        "a" * 16: beat_of(now - 61, 60, BEAT.decode()),
        "b" * 16: b"\xff no beat",
        b"\xff": b"",
    }
    client.hset("{revokebus}:instances", mapping=junk)
    client.hset("{revokebus}:facts", "a" * 16, FACTS)
    assert [*(await parts.instances.list()).live] == [parts.instances.instance]
    assert client.hlen("{revokebus}:instances") == 2  # it, and since when there is a list
    assert client.hlen("{revokebus}:facts") == 1


async def test_starts_remove_what_others_left(parts: StoreParts, client: redis.Redis) -> None:
    """After a month of deployments a fleet would count thousands of the dead, and tick slowly."""
    await parts.instances.beat(BEAT, FACTS)
    gone = beat_of(time.time() - 61, 60, BEAT.decode())
    names = [f"{number:016x}" for number in range(50)]
    client.hset("{revokebus}:instances", mapping=dict.fromkeys(names, gone))
    client.hset("{revokebus}:facts", mapping=dict.fromkeys(names, FACTS))
    assert [each.name for each in await parts.instances.sample()] == [parts.instances.instance]
    assert client.hlen("{revokebus}:instances") == 2
    assert client.hlen("{revokebus}:facts") == 1


async def test_a_jump_of_the_clock_makes_nobody_dead(
    parts: StoreParts, store: Store, client: redis.Redis
) -> None:
    """One that is cut off, and still accepts, would be in no receipt any more."""
    await quiet(store)
    beat = beat_of(time.time() - 70, 60, BEAT.decode())
    client.hset("{revokebus}:instances", "b" * 16, beat)
    client.hset("{revokebus}:meta", "seen", str(time.time() - 70))  # it was set forward
    assert (await parts.instances.list()).age == 0
    assert client.hexists("{revokebus}:instances", "b" * 16)
    client.hset("{revokebus}:meta", "seen", str(time.time()))
    await parts.instances.list()
    assert not client.hexists("{revokebus}:instances", "b" * 16)


async def test_one_of_another_version_is_an_instance(
    parts: StoreParts, client: redis.Redis
) -> None:
    """During an upgrade a receipt would say that everybody has it, and mean those it can read."""
    heartbeat = beat_of(time.time(), 60, '{"format": "of the future"}')
    client.hset("{revokebus}:instances", "b" * 16, heartbeat)
    (other,) = (await parts.instances.list()).live.values()
    assert (other.name, other.facts.version) == ("b" * 16, "unknown")
    assert other.facts.bound == math.inf
    (told,) = describe([other], own="")
    assert (told.state, told.staleness, told.is_silent) == ("starting", None, False)


async def test_whoever_was_forgotten_comes_back(
    parts: StoreParts, store: Store, client: redis.Redis
) -> None:
    """An instance that was paused for a minute would not be waited for again, until a restart."""
    position = await store.position()
    await parts.instances.beat(BEAT, FACTS)
    client.delete("{revokebus}:instances")
    assert (await store.read(position)).wants_heartbeat
    await parts.instances.beat(BEAT, FACTS)
    assert [*(await parts.instances.list()).live] == [parts.instances.instance]


async def test_it_is_known_since_when_everybody_is_known(
    make_settings: MakeSettings, redis_server: RedisServer, client: redis.Redis
) -> None:
    """Whoever was cut off before Redis lost its data would not be missed."""
    client.flushall()
    async with opened(make_settings(redis_server.url)) as parts:
        store = parts.store
        assert (await parts.instances.list()).age == 0
        position = await store.position()
        await store.read(position)
        await parts.instances.beat(BEAT, FACTS)
        assert (await parts.instances.list()).age < LONG_AGO
        client.hset("{revokebus}:meta", mapping={"began": "1", "since": "2"})
        assert (await parts.instances.list()).age < LONG_AGO
        client.hset("{revokebus}:instances", "since", "1000")
        assert (await parts.instances.list()).age > LONG_AGO
        client.hset("{revokebus}:meta", "server", "another")  # it was restored from a snapshot
        assert (await parts.instances.list()).age == 0
        await store.read(position)
        assert (await parts.instances.list()).age < LONG_AGO
        client.hset("{revokebus}:meta", mapping={"began": "9e99", "since": "junk"})
        assert (await parts.instances.list()).age == 0


@pytest.mark.parametrize("text", ["nu", "1.2.3", "null.5", "l"])
async def test_a_strangers_record_hinders_no_revocation(
    store: Store, client: redis.Redis, text: str
) -> None:
    """It would be logged again and again, and never be acknowledged or pushed."""
    await store.position()
    record = f'2 [["","jti","a",99999999999.0,{text}]]'
    client.set("{revokebus}:r:jti:a", record)
    before: Any = client.xlen("{revokebus}:log")
    await store.writes.write([revocation("a")], ANY)
    assert client.xlen("{revokebus}:log") == before + 1
    assert client.get("{revokebus}:r:jti:a") != record.encode()


async def test_another_data_set_is_not_written_to(store: Store, client: redis.Redis) -> None:
    """A former primary that has come back empty would acknowledge what is lost with it."""
    known = (await store.position()).epoch
    await store.writes.write([revocation("a")], known)
    client.flushall()
    for attempt in (
        store.writes.write([revocation("b")], known),
        store.sessions.exchange(SESSION, EXCHANGE, [], known),
    ):
        with pytest.raises(OtherDataSetError):
            await attempt
    assert client.dbsize() == 0


async def test_a_walk_ends_with_the_server_that_it_began_on(
    redis_binary: str, make_settings: MakeSettings
) -> None:
    """After a restart a cursor means something else, and a cold start would miss records."""
    with RedisServer(redis_binary, {"appendonly": "yes", "appendfsync": "always"}) as server:
        async with opened(make_settings(server.url)) as parts:
            store = parts.store
            await store.writes.write([revocation(str(number)) for number in range(5000)], ANY)
            walk = parts.listing.records()
            await anext(walk)
            server.kill()
            server.start()
            with pytest.raises(StoreError):
                await rest_of(walk)
            assert len(await everything(store)) == 5000


async def test_every_kind_of_write_is_remembered_until_the_log_shows_it(
    parts: StoreParts, store: Store
) -> None:
    """What a failover loses within a tick would be missed by nobody."""
    many = [revocation(str(number)) for number in range(1200)]  # three rows
    position = await store.position()
    await store.writes.write(many, ANY)
    page = await store.read(position)
    parts.unseen_writes.seen(page.entries[1:])
    assert not list(parts.unseen_writes.missed(float("inf")))
    await store.writes.write(many, ANY)
    assert sum(map(len, parts.unseen_writes.missed(float("inf")))) == 1200


async def test_a_turn_lasts_as_long_as_it_is_asked_for(
    store: Store, redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """During a long repair another would begin, and new instances would trust what is there."""
    async with store.turn() as is_ours:
        assert await is_ours()
        client.pexpire("{revokebus}:repair", 200)
        assert await is_ours()
        assert client.pttl("{revokebus}:repair") > 500
        async with (
            opened(make_settings(redis_server.url)) as other,
            other.store.turn() as is_theirs,
        ):
            assert not await is_theirs()
        client.delete("{revokebus}:repair")
        assert not await is_ours()
    assert not client.exists("{revokebus}:repair")


async def test_no_answer_is_taken_from_a_data_set_that_may_have_lost_it(
    store: Store, client: redis.Redis
) -> None:
    """``ask_redis`` would accept what a Redis that was just flushed no longer knows."""
    mine = revocation()
    client.flushall()
    with pytest.raises(OtherDataSetError):
        await store.refuses([mine.target], 1.5, ANY)  # there is no data set
    await store.writes.write([mine], ANY)
    epoch = (await store.position()).epoch
    assert await store.refuses([mine.target], 1.5, epoch)  # what is there needs no proof
    with pytest.raises(OtherDataSetError):
        await store.refuses([revocation("b").target], 1.5, "0" * 32)
    with pytest.raises(UnsettledError):  # the data set is new
        await store.refuses([revocation("b").target], 1.5, epoch)
    client.delete("{revokebus}:hold")
    assert not await store.refuses([revocation("b").target], 1.5, epoch)
    client.set("{revokebus}:repair", "somebody")
    with pytest.raises(UnsettledError, match="writing back"):
        await store.refuses([revocation("b").target], 1.5, epoch)


async def test_a_page_says_that_it_proves_nothing_on_a_new_server(
    store: Store, client: redis.Redis
) -> None:
    """An instance would be proven by a server that was restored, or promoted, a moment ago."""
    client.flushall()
    position = await store.position()
    assert (await store.read(position)).unsettled is not None
    client.delete("{revokebus}:hold")
    assert (await store.read(position)).unsettled is None
    client.hset("{revokebus}:meta", "server", "another")
    unsettled = (await store.read(position)).unsettled
    assert unsettled is not None
    assert 0 < (unsettled.seconds or 0) < 1.1
    assert client.hget("{revokebus}:meta", "server") == client.info("server")["run_id"].encode()


@pytest.mark.parametrize("name", ["hold", "repair"])
async def test_a_clock_that_was_set_back_keeps_nobody_waiting(
    store: Store, client: redis.Redis, name: str
) -> None:
    """Instances could not start for as long as the clock was ahead."""
    position = await store.position()
    client.set(f"{{revokebus}}:{name}", "1", px=3_600_000)
    assert (await store.read(position)).unsettled is not None
    assert client.pttl(f"{{revokebus}}:{name}") <= 10_000


async def test_a_full_redis_that_is_new_can_be_held(store: Store, client: redis.Redis) -> None:
    """After a restart of a full Redis instances would be proven by what may be an old snapshot."""
    position = await store.position()
    client.delete("{revokebus}:hold")
    client.hset("{revokebus}:meta", "server", "another")
    client.config_set("maxmemory", 1)
    assert (await store.read(position)).unsettled is not None
    assert client.pttl("{revokebus}:hold") > 0  # as its script has written before


async def test_a_full_redis_that_is_new_is_not_trusted_for_a_while(
    store: Store, client: redis.Redis
) -> None:
    """``ask_redis`` would never get an answer from a Redis that is full, or trust a new one."""
    epoch = (await store.position()).epoch
    client.delete("{revokebus}:hold")
    client.hset("{revokebus}:meta", "server", "another")
    client.config_set("maxmemory", 1)
    with pytest.raises(UnsettledError):
        await store.refuses([revocation().target], 1.5, epoch)
    assert client.hget("{revokebus}:meta", "server") != b"another"
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(UnsettledError):
                assert not await store.refuses([revocation().target], 1.5, epoch)
                break
            await asyncio.sleep(0.05)


async def test_the_history_is_the_whole_log(parts: StoreParts, store: Store) -> None:
    """Records that were evicted would be missing after a cold start."""
    many = [revocation(str(number), claim="sid") for number in range(3)]
    for _ in range(400):
        await store.writes.write(many, ANY)
    position = await store.position()
    await store.writes.write(many, ANY)
    pages = [page async for page in parts.listing.history(position)]
    assert sum(map(len, pages)) == 401  # and the first row, which says nothing
    assert pages[-1][-1] == position.entry.payload


async def test_nothing_is_connected_after_the_end(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A request that is under way while the bus closes would leave a connection behind."""
    parts = StoreParts.of(make_settings(redis_server.url), CLOCK)
    await parts.store.position()
    await parts.close()
    with pytest.raises(StoreError, match="closed"):
        await parts.store.position()
    await eventually(lambda: len(client.client_list()) == 1)


@pytest.mark.parametrize(
    ("first", "is_better"),
    [(LONG_AGO, True), (0, False), (None, False)],
    ids=["old", "new", "none"],
)
async def test_only_a_log_that_is_old_enough_has_everything(
    parts: StoreParts, store: Store, client: redis.Redis, first: int | None, *, is_better: bool
) -> None:
    """An instance that starts after the log was lost would forget what the records have."""
    if first is not None:
        then = int(time.time()) - first
        client.xadd("{revokebus}:log", {"r": encode_payload([])}, id=f"{then * 1000}-0")
        await store.writes.write([revocation()], ANY)
    async with parts.listing.turn(may_wait=True) as log_is_better:
        assert log_is_better is is_better


async def test_a_log_longer_than_the_database_is_not_read(
    parts: StoreParts, client: redis.Redis
) -> None:
    """A start would read a month of log-outs to find those of the last quarter of an hour."""
    then = int(time.time() - LONG_AGO) * 1000
    for number in range(9):
        client.xadd("{revokebus}:log", {"r": encode_payload([])}, id=f"{then + number}-0")
    async with parts.listing.turn(may_wait=True) as log_is_better:
        assert not log_is_better


async def test_a_page_is_bounded_in_bytes(store: Store) -> None:
    """Of rows that are long a page would never come within the deadline of a tick, nor the next."""
    start = await store.position()
    long = "x" * 4000
    for number in range(60):
        await store.writes.write([revocation(f"{long}{number}")], ANY)
    rows, position = 0, start
    for _ in range(100):
        page = await store.read(position)
        assert sum(len(entry.payload) for entry in page.entries[1:]) <= 140_000
        rows += len(page.entries) - 1
        position = Position(page.epoch, page.entries[-1])
        if not page.more:
            break
    page = await store.read(start)
    assert page.more
    assert rows >= 2
    assert not (await store.read(position)).more


async def test_a_row_that_is_longer_than_a_page_is_read(store: Store) -> None:
    """The reader would ask for the same page for ever."""
    start = await store.position()
    await store.writes.write([revocation("x" * 8000 + str(number)) for number in range(60)], ANY)
    await store.writes.write([revocation("after")], ANY)
    page = await store.read(start)
    while page.more:
        page = await store.read(Position(page.epoch, page.entries[-1]))
    assert b"after" in page.entries[-1].payload


async def test_a_redis_that_is_full_can_be_held(store: Store, client: redis.Redis) -> None:
    """It lacks what cannot be written back, and whoever starts would rely on it."""
    await store.position()
    client.delete("{revokebus}:hold")
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreError):
        await store.writes.write([revocation()], ANY)
    await store.hold(5)
    assert client.pttl("{revokebus}:hold") > 4000


@pytest.mark.parametrize("key", ["meta", "log"])
async def test_a_key_that_is_something_else_is_made_anew(
    store: Store, client: redis.Redis, key: str
) -> None:
    """Every instance would be stale until an operator deletes it."""
    position = await store.position()
    client.delete(f"{{revokebus}}:{key}")
    client.set(f"{{revokebus}}:{key}", "odd")
    page = await store.read(position)
    assert page.epoch != position.epoch or not page.entries
    await store.position()
    await store.writes.write([revocation()], ANY)
    assert (await store.read(await store.position())).entries


async def test_a_new_data_set_is_announced(store: Store, client: redis.Redis) -> None:
    """One that ticks every five seconds would notice a loss when others have relied on it."""
    await store.position()
    async with store.subscribe() as messages:
        client.flushall()
        position = await store.position()
        async with asyncio.timeout(5):
            message = decode_message(await anext(aiter(messages)))
    assert message.epoch == position.epoch


@pytest.mark.parametrize("command", ["hmget", "xrevrange", "xrange", "hlen"])
async def test_one_without_rights_deletes_nothing(
    store: Store, client: redis.Redis, command: str
) -> None:
    """A pod with a slip in its rights would have the whole fleet list everything without end."""
    position = await store.position()
    await store.writes.write([revocation()], ANY)
    before = client.hget("{revokebus}:meta", "epoch"), client.xlen("{revokebus}:log")
    client.execute_command("ACL SETUSER", "default", f"-{command}")  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    try:
        for attempt in (store.position(), store.read(position)):
            with contextlib.suppress(StoreError):
                await attempt
    finally:
        client.execute_command("ACL SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]  # likewise
    assert before == (client.hget("{revokebus}:meta", "epoch"), client.xlen("{revokebus}:log"))


async def test_the_count_of_instances_is_no_condition(store: Store, client: redis.Redis) -> None:
    """After an upgrade with the rights of before no instance would ever be proven."""
    position = await store.position()
    client.execute_command("ACL SETUSER", "default", "-hlen")  # type: ignore[no-untyped-call]  # likewise
    try:
        assert (await store.read(position)).instances == 1
    finally:
        client.execute_command("ACL SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]  # likewise
