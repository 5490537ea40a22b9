"""Who has applied a revocation: the answers of a fleet, and what is said where one is missing."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, Receipt
from revokebus.engine.engine import Engine
from revokebus.errors import NotConfirmedError, StoreError
from revokebus.protocol.wire import Inquiry, encode_inquiry
from revokebus.store.writes import Written
from revokebus.tasks import end
from revokebus.testing import AppServer
from revokebus.testing.redis_server import embedded_valkey
from tests.support import SECRET, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

    from revokebus.testing import RedisServer, SentinelServers
    from tests.support import Eventually, MakeSettings

LONG = 20.0
SHORT = 1.0


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


async def access(engine: Engine) -> AccessToken:
    return await engine.authenticate(engine.issue("alice").access_token, AccessToken)


def tasks_of(engine: Engine, name: str) -> list[asyncio.Task[None]]:
    started = engine._backend._started  # type: ignore[attr-defined]  # a RedisBackend's
    return [task for task in started.tasks if task.get_name() == f"revokebus-{name}"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - Redis tells, no event does
            await asyncio.sleep(0.01)


def lists_read(client: redis.Redis) -> int:
    """Return how often the list of instances was read."""
    return int(client.info("commandstats")["cmdstat_hscan"]["calls"])


async def all_present(count: int, bus: Engine) -> None:
    async def are_there() -> bool:
        return len(await bus.fleet()) == count

    await until(are_there)


def epoch_of(client: redis.Redis) -> str:
    epoch: Any = client.hget("{revokebus}:meta", "epoch")
    name: str = epoch.decode()
    return name


def let_it_be_old(client: redis.Redis) -> None:
    """As if Redis had had its data for long, so that whoever there is is known."""
    client.hset("{revokebus}:meta", mapping={"began": "1", "since": "1"})
    client.hset("{revokebus}:instances", "since", "1000")


def outcomes(receipt: Receipt) -> list[str]:
    return sorted(each.outcome for each in receipt.confirmations or ())


async def test_every_instance_answers(fleet: list[Engine], client: redis.Redis) -> None:
    """Whoever locks a stolen account out could not know when it is locked out."""
    await all_present(3, fleet[0])
    let_it_be_old(client)
    client.config_resetstat()
    receipt = await fleet[1].revoke(await access(fleet[0]), confirm="fleet", timeout=LONG)
    assert outcomes(receipt) == ["applied"] * 3
    assert receipt.is_confirmed
    assert receipt.silent == ()
    named = {each.instance for each in receipt.confirmations or ()}
    assert named == {engine.status().instance for engine in fleet}
    assert all(0 <= (each.seconds or 0) < LONG for each in receipt.confirmations or ())
    # Who there is, is asked once, however many there are.
    stats = client.info("commandstats")
    assert stats["cmdstat_hscan"]["calls"] == 1


async def test_every_way_of_revoking_can_be_confirmed(fleet: list[Engine]) -> None:
    """A sign-out everywhere, of all things, would leave it open."""
    await all_present(3, fleet[0])
    bus = fleet[0]
    token = await access(bus)
    receipts = [
        await bus.revoke_session("s", confirm="fleet", timeout=LONG),
        await bus.revoke_subject("bob", confirm="fleet", timeout=LONG),
        await bus.revoke_claim("sub", "carol", confirm="fleet", timeout=LONG),
        await bus.revoke_many([token, token], confirm="fleet", timeout=LONG),
        await bus.revoke_all(confirm="fleet", timeout=LONG),
    ]
    assert [outcomes(receipt) for receipt in receipts] == [["applied"] * 3] * 5


async def test_without_asking_nobody_is_asked(fleet: list[Engine]) -> None:
    """Each log-out would cost a fleet of hundreds hundreds of messages."""
    receipt = await fleet[0].revoke(await access(fleet[0]))
    assert receipt.confirmations is None
    assert not receipt.is_confirmed


async def test_one_that_hears_nothing_confirms_by_its_heartbeat(fleet: list[Engine]) -> None:
    """One lost subscription would make every confirmation wait for its timeout."""
    await all_present(3, fleet[0])
    await end(tasks_of(fleet[2], "subscriber"))
    receipt = await fleet[0].revoke(await access(fleet[0]), confirm="fleet", timeout=LONG)
    assert outcomes(receipt) == ["applied"] * 3


async def test_a_gap_in_what_is_heard_is_closed_before_the_answer(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """An instance would confirm what it has missed."""
    await all_present(3, fleet[0])
    receipt = await fleet[0].revoke(await access(fleet[0]))
    epoch = epoch_of(client)
    await eventually(lambda: {e.status().position for e in fleet} == {receipt.position})
    # A row that was logged without a message, as if that had been lost.
    entries: Any = client.xrange("{revokebus}:log")
    added: Any = client.xadd("{revokebus}:log", entries[-1][1])
    entry: str = added.decode()
    milliseconds, number = map(int, entry.split("-"))
    answers = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    name = secrets.token_hex(8)
    answers.subscribe(f"{{revokebus}}:ack:{name}")
    answers.get_message(timeout=5)
    question = encode_inquiry(Inquiry(epoch, (milliseconds, number), name))
    client.publish("{revokebus}:ch", question)
    heard: set[str] = set()
    while len(heard) < 3:
        answer = await asyncio.to_thread(answers.get_message, timeout=10)
        assert answer is not None
        heard.add(answer["data"].decode())
    assert {engine.status().position for engine in fleet} == {entry}
    answers.close()


async def test_one_that_is_frozen_is_named(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A hung instance would be taken for one that refuses the token, or be waited for for ever."""
    settle(redis_server)
    environment = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis_server.url}
    app = AppServer("examples.redis_app:app", environment)
    app.start()
    try:
        async with Engine(make_settings(redis_server.url)) as bus:
            await all_present(2, bus)
            app.freeze()
            receipt = await bus.revoke(await access(bus), confirm="fleet", timeout=SHORT)
            app.thaw()
            assert outcomes(receipt) == ["applied", "silent"]
            assert not receipt.is_confirmed
            (silent,) = receipt.silent
            assert silent.pid == app.pid
            assert silent.seconds is None
    finally:
        app.stop()


async def test_one_that_dies_meanwhile_is_named(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A crash during an incident would hang whoever handles it."""
    settle(redis_server)
    async with Engine(make_settings(redis_server.url)) as bus:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REVOKEBUS_SECRET_KEY", SECRET)
            app = AppServer("examples.redis_app:app", {"REVOKEBUS_REDIS_URL": redis_server.url})
            app.start()
        await all_present(2, bus)
        app.freeze()
        waiting = asyncio.create_task(bus.revoke(await access(bus), confirm="fleet", timeout=1.2))
        await asyncio.sleep(0)
        app.kill()
        assert outcomes(await waiting) == ["applied", "silent"]


async def test_one_that_ends_meanwhile_is_not_waited_for(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A deployment would make every confirmation wait for its timeout."""
    await all_present(3, fleet[0])
    let_it_be_old(client)
    await end(tasks_of(fleet[2], "subscriber"))
    await end(tasks_of(fleet[2], "ticker"))
    token = await access(fleet[0])
    before = lists_read(client)
    waiting = asyncio.create_task(fleet[0].revoke(token, confirm="fleet", timeout=LONG))
    await eventually(lambda: lists_read(client) > before)
    await fleet[2].close()
    receipt = await waiting
    assert outcomes(receipt) == ["applied", "applied", "ended"]
    assert receipt.is_confirmed


async def test_one_that_is_forgotten_meanwhile_has_not_ended(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """Data that Redis loses at the wrong moment would confirm what an instance has not heard."""
    await all_present(3, fleet[0])
    await end(tasks_of(fleet[2], "subscriber"))
    await end(tasks_of(fleet[2], "ticker"))
    token = await access(fleet[0])
    before = lists_read(client)
    waiting = asyncio.create_task(fleet[0].revoke(token, confirm="fleet", timeout=1.2))
    await eventually(lambda: lists_read(client) > before)
    client.hdel("{revokebus}:instances", fleet[2].status().instance or "")
    receipt = await waiting
    assert outcomes(receipt) == ["applied", "applied", "silent"]


async def test_nobody_knows_who_was_there_before_redis_lost_its_data(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """An instance that was cut off would accept the token, and a receipt say that none does."""
    settings = make_settings(redis_server.url, max_staleness=4.0)
    async with Engine(settings) as bus, Engine(settings) as cut_off:
        await all_present(2, bus)
        let_it_be_old(client)
        await end(tasks_of(cut_off, "subscriber"))
        await end(tasks_of(cut_off, "ticker"))
        client.flushall()
        await all_present(1, bus)
        token = await access(bus)
        receipt = await bus.revoke(token, confirm="fleet", timeout=SHORT)
        assert cut_off.status().state == "fresh"
        assert (outcomes(receipt), receipt.knows_all) == (["applied"], False)
        assert not receipt.is_confirmed
        # It waits where it has been given the time.
        receipt = await bus.revoke(token, confirm="fleet", timeout=LONG)
        assert cut_off.status().state == "stale"
        assert receipt.is_confirmed


async def test_a_lost_list_of_instances_names_nobody(
    fleet: list[Engine], client: redis.Redis
) -> None:
    """Whoever was cut off before the list was lost would not be missed."""
    await all_present(3, fleet[0])
    let_it_be_old(client)
    await end(tasks_of(fleet[2], "subscriber"))
    await end(tasks_of(fleet[2], "ticker"))
    client.set("{revokebus}:instances", "of a stranger")  # which the next tick repairs
    await all_present(2, fleet[0])
    receipt = await fleet[0].revoke(await access(fleet[0]), confirm="fleet", timeout=SHORT)
    assert (outcomes(receipt), receipt.is_confirmed) == (["applied"] * 2, False)


async def test_without_info_a_restart_cannot_be_seen(
    redis_server: RedisServer, client: redis.Redis, make_settings: MakeSettings
) -> None:
    """A Redis that was restored from a snapshot would be taken to know everybody."""
    rules: dict[str, Any] = {"enabled": True, "passwords": ["+pw"], "keys": ["*"]}
    client.acl_setuser("blind", channels=["*"], commands=["+@all", "-info"], **rules)
    url = redis_server.url.replace("redis://", "redis://blind:pw@")
    async with Engine(make_settings(url)) as bus:
        let_it_be_old(client)
        receipt = await bus.revoke(await access(bus), confirm="fleet", timeout=SHORT)
        assert (outcomes(receipt), receipt.knows_all) == (["applied"], False)


@pytest.mark.parametrize(("policy", "outcome"), [("reject", "applied"), ("accept", "silent")])
async def test_a_copy_without_room_confirms_only_what_it_would_refuse(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    policy: str,
    outcome: str,
    eventually: Eventually,
) -> None:
    """One that accepts what it has no room for, once Redis is away, would be counted on."""
    small = make_settings(redis_server.url, max_entries=1, on_stale=policy)
    async with Engine(make_settings(redis_server.url)) as bus, Engine(small) as other:
        await all_present(2, bus)
        let_it_be_old(client)
        await bus.revoke_subject("carol")
        await bus.revoke_subject("dave")
        await eventually(lambda: not other.status().complete)
        receipt = await bus.revoke_subject("bob", confirm="fleet", timeout=1.2)
        assert outcomes(receipt) == sorted(["applied", outcome])


async def test_a_writer_that_nobody_confirms_confirms_nothing(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """On the wrong side of a cut, all that lives on the other would be taken for ended."""
    async with Engine(make_settings(sentinels.url)) as bus:
        with sentinels.primary.client() as client:
            client.hset("{revokebus}:meta", mapping={"began": "1", "since": "1"})
            client.hset("{revokebus}:instances", "since", "1000")
        assert (await bus.revoke_all(confirm="fleet", timeout=LONG)).is_confirmed
        for sentinel in sentinels.sentinels:
            sentinel.freeze()
        try:
            receipt = await bus.revoke_all(confirm="fleet", timeout=LONG)
        finally:
            for sentinel in sentinels.sentinels:
                sentinel.thaw()
        assert (outcomes(receipt), receipt.knows_all) == (["applied"], False)


async def test_a_crowd_of_questions_ends_no_answerer(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """Anybody on the channel could end the answers of a process, which nothing would show."""
    await all_present(3, fleet[0])
    epoch = epoch_of(client)
    pipe = client.pipeline(transaction=False)
    for number in range(1500):
        pipe.publish("{revokebus}:ch", encode_inquiry(Inquiry(epoch, (0, 0), f"{number:016x}")))
    pipe.execute()
    await eventually(lambda: all(sum(e.status().ignored.values()) > 0 for e in fleet))
    receipt = await fleet[0].revoke(await access(fleet[0]), confirm="fleet", timeout=LONG)
    assert outcomes(receipt) == ["applied"] * 3
    for engine in fleet:
        assert not any(task.done() for task in tasks_of(engine, "responder"))


async def test_a_redis_that_hangs_does_not_lengthen_the_wait(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Whoever handles an incident would wait for much longer than was asked for."""
    async with Engine(make_settings(redis_server.url, redis_timeout=LONG)) as bus:
        confirm = bus._backend.confirm
        written = Written("1-1", bus._backend._started.run.continuity.epoch)  # type: ignore[attr-defined]  # a RedisBackend's
        redis_server.freeze()
        try:
            with pytest.raises(StoreError, match="who is to answer"):
                await confirm(written, 0.0, SHORT)
        finally:
            redis_server.thaw()


async def test_one_that_knows_that_it_is_stale_is_not_waited_for(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """Each confirmation after a crash would take its whole timeout."""
    settings = make_settings(redis_server.url, max_staleness=4.0)
    async with Engine(settings) as bus, Engine(settings) as other:
        await all_present(2, bus)
        let_it_be_old(client)
        await end(tasks_of(other, "subscriber"))
        await end(tasks_of(other, "ticker"))
        await eventually(lambda: other.status().state == "stale")
        receipt = await bus.revoke(await access(bus), confirm="fleet", timeout=LONG)
        assert outcomes(receipt) == ["applied", "stale"]
        assert receipt.is_confirmed
        (there,) = [each for each in await bus.fleet() if not each.is_self]
        assert there.state == "stale"


async def test_the_fleet_tells_how_it_is(fleet: list[Engine]) -> None:
    """Nobody could see which instance is behind, or of which version."""
    await all_present(3, fleet[0])
    receipt = await fleet[0].revoke(await access(fleet[0]))

    async def have_read_it() -> bool:
        return {each.position for each in await fleet[0].fleet()} == {receipt.position}

    await until(have_read_it)
    told = await fleet[0].fleet()
    assert [each.instance for each in told if each.is_self] == [fleet[0].status().instance]
    for each in told:
        assert (each.state, each.entries, each.lag, each.is_silent) == ("fresh", 1, 0, False)
        assert each.version[0].isdigit()


async def test_the_fleet_tells_how_it_is_now(fleet: list[Engine], client: redis.Redis) -> None:
    """A status would be ten seconds old, and call instances silent that are well."""
    await all_present(3, fleet[0])
    beats: dict[Any, Any] = client.hgetall("{revokebus}:instances")
    for name, value in beats.items():
        if name != b"since":
            sent, _, rest = value.partition(b" ")
            client.hset("{revokebus}:instances", name, b"%d %s" % (int(sent) - 9_000, rest))
    for each in await fleet[0].fleet():
        assert (each.state, each.is_silent) == ("fresh", False)
        assert each.silence < 3


@pytest.mark.parametrize(
    ("channel", "commands"),
    [("*", ["+@all", "-hscan"]), ("{revokebus}:ch", ["+@all"])],
    ids=["who there is", "the channel of the answers"],
)
async def test_what_redis_does_not_allow_loses_no_receipt(
    client: redis.Redis,
    make_settings: MakeSettings,
    redis_server: RedisServer,
    channel: str,
    commands: list[str],
) -> None:
    """The caller would be told that all is well, or that nothing was revoked."""
    rules: dict[str, Any] = {"enabled": True, "passwords": ["+pw"], "keys": ["*"]}
    client.acl_setuser("limited", channels=[channel], commands=commands, **rules)
    url = redis_server.url.replace("redis://", "redis://limited:pw@")
    async with Engine(make_settings(url)) as bus:
        token = await access(bus)
        with pytest.raises(NotConfirmedError, match="recorded in Redis") as caught:
            await bus.revoke(token, confirm="fleet")
        assert caught.value.receipt.revocations == 1
        assert "pw" not in str(caught.value)
        assert bus.is_revoked(token.claims)


async def test_questions_that_cannot_be_answered_do_not_crowd_out_others(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A stranger could make every later confirmation wait."""
    await all_present(3, fleet[0])
    pipe = client.pipeline(transaction=False)
    for number in range(1100):
        never = Inquiry("0" * 32, (1, 0), f"{number:016x}")
        pipe.publish("{revokebus}:ch", encode_inquiry(never))
    pipe.execute()
    await eventually(lambda: all(sum(e.status().ignored.values()) == 100 for e in fleet))
    receipt = await fleet[0].revoke(await access(fleet[0]), confirm="fleet", timeout=LONG)
    assert outcomes(receipt) == ["applied"] * 3


async def test_nothing_is_confirmed_by_nobody(fleet: list[Engine]) -> None:
    """A receipt of nothing would say that all is well."""
    receipt = await fleet[0].revoke_many([], confirm="fleet")
    assert not receipt.is_confirmed
    with pytest.raises(ValueError, match="timeout"):
        await fleet[0].revoke_all(dry_run=True, timeout=-1)


async def test_one_process_confirms_itself(make_settings: MakeSettings) -> None:
    """The same program would fail in tests on ``memory://``."""
    async with Engine(make_settings()) as bus:
        receipt = await bus.revoke(await access(bus), confirm="fleet")
        assert outcomes(receipt) == ["applied"]
        (alone,) = await bus.fleet()
        assert (alone.entries, alone.state, alone.is_self) == (1, "fresh", True)


@pytest.mark.parametrize("wrong", [{"confirm": "everybody"}, {"timeout": 0}, {"timeout": 61}])
async def test_a_wrong_option_revokes_nothing(
    make_settings: MakeSettings, wrong: dict[str, object]
) -> None:
    """A slip of the pen would leave the caller with an error, and not knowing what was done."""
    async with Engine(make_settings()) as bus:
        token = await access(bus)
        with pytest.raises(ValueError, match=r"confirm|timeout"):
            await bus.revoke(token, **wrong)  # type: ignore[arg-type]  # what it is to refuse
        assert not bus.is_revoked(token.claims)


async def test_strangers_on_the_channels_are_no_instances(
    fleet: list[Engine], client: redis.Redis
) -> None:
    """A stranger's bytes would end the wait, or the process that asked or was asked."""
    await all_present(3, fleet[0])
    epoch = epoch_of(client)
    for junk in (b"RQ", b"RQ x 1-1 y", b"\xff", f"RQ {epoch} 1-1 {'g' * 16}".encode()):
        client.publish("{revokebus}:ch", junk)
    far = Inquiry(epoch, (2**63, 0), "f" * 16)  # never to be answered
    client.publish("{revokebus}:ch", encode_inquiry(far))
    shouting = asyncio.create_task(shout(client))
    receipt = await fleet[0].revoke(await access(fleet[0]), confirm="fleet", timeout=LONG)
    await end([shouting])
    assert outcomes(receipt) == ["applied"] * 3


async def shout(client: redis.Redis) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        for _ in range(2000):
            for channel in client.pubsub_channels("{revokebus}:ack:*"):
                client.publish(channel, b"\xff not an instance")
                client.publish(channel, b"e" * 16)
            await asyncio.sleep(0)
