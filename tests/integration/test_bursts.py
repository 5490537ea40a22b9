"""What comes at once goes together, over a handful of connections, and fails alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from revokebus.engine.engine import Engine
from revokebus.errors import ConfigurationError, NotDurableError
from revokebus.settings.settings import Settings
from revokebus.testing import Link, RedisServer
from revokebus.testing.redis_server import follows
from revokebus.tokens.claims import AccessToken, RefreshToken
from tests.support import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Eventually, MakeSettings

MOST = 4
# The tests run in asyncio's debug mode, in which a burst takes this process several times as long.
PATIENT = {"redis_timeout": 10.0, "max_staleness": 30.0}


async def signed_in(engine: Engine, count: int) -> list[AccessToken]:
    pairs = [engine.issue(f"user {number}") for number in range(count)]
    return [await engine.authenticate(pair.access_token, AccessToken) for pair in pairs]


def connections(server: RedisServer) -> int:
    """Return how many there are, without the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


async def test_a_thousand_log_outs_at_once(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Most would fail, and hundreds of connections would lock other programs out."""
    settings = make_settings(redis_server.url, **PATIENT)
    async with Engine(settings) as engine:
        tokens = await signed_in(engine, 1000)
        receipts = await asyncio.gather(*(engine.revoke(token) for token in tokens))
        assert [receipt.revocations for receipt in receipts] == [1] * 1000
        assert connections(redis_server) <= MOST
        with redis_server.client() as client:
            assert client.xlen("{revokebus}:log") < 50
        async with Engine(settings) as other:
            assert all(other.is_revoked(token.claims) for token in tokens)


async def test_few_connections_are_left(redis_binary: str, make_settings: MakeSettings) -> None:
    """A burst would take the last ones, lock other programs out, and leave the instance stale."""
    with RedisServer(redis_binary, {"maxclients": "6"}) as server:
        async with Engine(make_settings(server.url, **PATIENT)) as engine:
            tokens = await signed_in(engine, 300)
            await asyncio.gather(*(engine.revoke(token) for token in tokens))
            assert connections(server) <= MOST
            assert engine.status().state == "fresh"


async def test_many_that_are_revoked_in_one_call_let_requests_through(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Everybody's requests would wait for seconds while an operator revokes 30,000 tokens."""
    async with Engine(make_settings(redis_server.url, **PATIENT)) as engine:
        encoded = [engine.issue(f"user {number}").access_token for number in range(2_000)]
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(others())
        receipt = await engine.revoke_many(encoded)
        task.cancel()
        assert receipt.revocations == 2_000
        assert turns >= 20


async def test_of_many_at_once_each_gets_its_own_error(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A log-out that is not durable would be reported as done, or one that is as lost."""
    async with Engine(make_settings(redis_server.url)) as engine:
        tokens = await signed_in(engine, 50)
        redis_server.freeze()
        attempts = [engine.revoke(token) for token in tokens]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(each) for each in results} == {NotDurableError}
        assert engine.status().unsaved == 50
        redis_server.thaw()
        await eventually(lambda: engine.status().unsaved == 0)
        assert connections(redis_server) <= MOST


async def test_three_hundred_refreshes_and_confirmed_log_outs_at_once(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Each would open a connection."""
    async with Engine(make_settings(redis_server.url, **PATIENT)) as engine:
        pairs = [engine.issue(f"user {number}") for number in range(300)]
        old = [await engine.authenticate(p.refresh_token, RefreshToken) for p in pairs]
        new = await asyncio.gather(*(engine.rotate(token) for token in old))
        assert len({pair.refresh_token for pair in new}) == 300
        confirmed = await asyncio.gather(
            *(engine.revoke_session(p.session_id, confirm="fleet", timeout=30) for p in pairs)
        )
        assert all(receipt.is_confirmed for receipt in confirmed)
        assert connections(redis_server) <= MOST


async def is_refused(engine: Engine, token: AccessToken) -> bool:
    targets, since = engine._checker._targets(token)
    return await engine._backend.refuses(targets, since)


async def test_where_redis_is_asked_many_are_asked_together(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """With a copy that is full, each request would be a script of its own."""
    settings = make_settings(redis_server.url, max_entries=1, **PATIENT)
    async with Engine(settings) as engine:
        tokens = await signed_in(engine, 200)
        await engine.revoke_many(tokens[:100])
        assert not engine.status().complete
        with redis_server.client() as client:
            before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        decided = await asyncio.gather(*(is_refused(engine, token) for token in tokens))
        assert decided == [True] * 100 + [False] * 100
        with redis_server.client() as client:
            after = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert after - before < 60
        assert connections(redis_server) <= MOST


async def test_a_long_row_is_not_sent_with_every_tick(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """One long value would go to every instance twice a second, for as long as it is the last."""

    def sent() -> int:
        with redis_server.client() as client:
            return int(client.info("stats")["total_net_output_bytes"])

    settings = make_settings(redis_server.url, revocable_claims=["device"])
    async with Engine(settings) as engine:
        await engine.revoke_claim("device", "x" * 4096)
        done = engine.counts.ticks["proven"]
        await eventually(lambda: engine.counts.ticks["proven"] > done + 1)
        before, done = sent(), engine.counts.ticks["proven"]
        await eventually(lambda: engine.counts.ticks["proven"] >= done + 10)
        assert sent() - before < 10 * 4096
        assert engine.status().state == "fresh"


async def test_a_planned_failover_behind_one_address(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """The connections would stay with a server that is a replica by now: stale for ever."""
    with (
        RedisServer(redis_binary) as first,
        RedisServer(redis_binary, {"replicaof": f"{first.host} {first.port}"}) as second,
        Link(first.host, first.port) as address,
    ):
        await eventually(lambda: follows(second))
        async with Engine(make_settings(address.url)) as engine:
            (token, other) = await signed_in(engine, 2)
            await engine.revoke(token)
            with second.client() as client, first.client() as former:
                await eventually(lambda: client.dbsize() == former.dbsize())
                client.replicaof("NO", "ONE")
                former.replicaof(second.host, second.port)
            address.lead_to(second.host, second.port)
            await engine.revoke(other)
            with second.client() as client:
                assert client.exists(f"{{revokebus}}:r:jti:{other.jti}")
            await eventually(lambda: engine.status().subscribed)
            await eventually(lambda: engine.status().state == "fresh")
            with second.client() as client:
                await eventually(lambda: client.pubsub_numsub("{revokebus}:ch")[0][1] == 1)


class Rotating:
    """Has another password each time, as an issuer of IAM tokens has."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = list(passwords)
        self.asked = 0

    async def get_credentials_async(self) -> tuple[str, str]:
        self.asked += 1
        return "app", self.passwords[-1]


def allow(server: RedisServer, password: str) -> None:
    with server.client() as client:
        client.acl_setuser(
            "app",
            enabled=True,
            reset_passwords=True,
            passwords=[f"+{password}"],
            commands=["+@all"],
            keys=["*"],
            channels=["*"],
        )


def cut(server: RedisServer) -> None:
    with server.client() as client:
        for each in client.client_list():
            if each["user"] == "app":
                client.client_kill_filter(_id=each["id"])


async def test_credentials_are_asked_for_at_each_connection(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A token of IAM lasts a quarter of an hour; the next reconnect would need a restart."""
    allow(redis_server, "one")
    credentials = Rotating("one")
    engine = Engine(make_settings(redis_server.url), credentials=credentials)
    async with engine:
        (token,) = await signed_in(engine, 1)
        allow(redis_server, "two")
        credentials.passwords.append("two")
        cut(redis_server)
        await engine.revoke(token)
        await eventually(lambda: engine.status().subscribed and engine.status().state == "fresh")
        assert credentials.asked >= 4
        with redis_server.client() as client:
            assert {each["user"] for each in client.client_list()} == {"app", "default"}


async def test_a_new_password_in_the_file_needs_no_restart(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually, tmp_path: Path
) -> None:
    """Whoever rotates passwords would have to restart every pod at the same moment."""
    allow(redis_server, "one")
    secret = tmp_path / "password"
    secret.write_text("one\n")
    url = redis_server.url.replace("redis://", "redis://app@")
    async with Engine(make_settings(url, redis_password_file=secret)) as engine:
        (token,) = await signed_in(engine, 1)
        allow(redis_server, "two")
        secret.write_text("two\n")
        cut(redis_server)
        await engine.revoke(token)
        secret.unlink()
        cut(redis_server)
        await eventually(lambda: "REDIS_PASSWORD_FILE" in (engine.status().last_error or ""))


@pytest.mark.parametrize("url", ["redis://:secret@host", "redis://app:secret@host"])
def test_two_passwords_are_refused(url: str, tmp_path: Path) -> None:
    """Nobody could tell which of them counts."""
    settings = Settings(secret_key=SECRET, redis_url=url)
    with pytest.raises(ConfigurationError, match="leave one of them out"):
        Engine(settings, credentials=Rotating("x"))
    with pytest.raises(ValueError, match="REDIS_PASSWORD_FILE"):
        Settings(secret_key=SECRET, redis_url=url, redis_password_file=tmp_path)


def test_too_few_connections_are_refused() -> None:
    """A limit that is not obeyed is worse than none."""
    changes: dict[str, Any] = {"secret_key": SECRET}
    with pytest.raises(ValueError, match="fewer than 4 connections"):
        Settings(redis_url="redis://host?max_connections=3", **changes)
    assert Settings(redis_url="redis://host?max_connections=4", **changes).uses_redis


def test_a_password_that_is_not_encoded_is_refused() -> None:
    """It would be read as a port, and the password as a comment."""
    with pytest.raises(ValueError, match="%23"):
        Settings(redis_url="redis://:57#pw@prod", secret_key=SECRET)
