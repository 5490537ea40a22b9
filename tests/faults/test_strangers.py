"""What others put on the channel and under our keys."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.protocol.wire import MAX_BYTES

if TYPE_CHECKING:
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

EPOCH = "0" * 32
FOREIGN = {
    "message_foreign": [
        b"",
        b"hello",
        b"\x00\xff\xfe" * 100,
        b"RB",
        b'{"jti": "a"}',
        b"RC a b c d",
    ],
    "message_too_large": [b"RB " + b"x" * MAX_BYTES],
    "message_row_id": [f"RB {EPOCH} 0-0 x-y 1 []".encode()],
}


async def test_the_listener_outlives_every_message(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One stray PUBLISH would leave an instance deaf for good."""
    with caplog.at_level(logging.WARNING), redis_server.client() as client:
        async with Engine(make_settings(redis_server.url)) as engine:
            await eventually(lambda: engine.status().subscribed)
            for _ in range(3):
                for messages in FOREIGN.values():
                    for message in messages:
                        client.publish("{revokebus}:ch", message)
            expected = {kind: 3 * len(messages) for kind, messages in FOREIGN.items()}
            await eventually(lambda: engine.status().ignored == expected)
            pair = engine.issue("alice")
            await engine.revoke(pair.access_token)
            status = engine.status()
            assert (status.state, status.subscribed) == ("fresh", True)
    for kind in FOREIGN:
        assert caplog.text.count(f"own: {kind} ") == 1


async def test_payloads_of_another_version_are_counted(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A newer instance beside an older one would end the older one's listener."""
    with redis_server.client() as client:
        async with Engine(make_settings(redis_server.url)) as engine:
            await eventually(lambda: engine.status().subscribed)
            epoch = client.hget("{revokebus}:meta", "epoch")
            assert isinstance(epoch, bytes)
            client.publish("{revokebus}:ch", b"RB %s 0-0 5-0 3 new" % epoch)
            client.xadd("{revokebus}:log", {"r": b"3 new"})
            client.xadd("{revokebus}:log", {"other": b"x"})
            await eventually(
                lambda: engine.status().ignored == {"message_version": 1, "row_version": 2}
            )
            assert engine.status().state == "fresh"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1",
        b"\xff" * 50,
        b"1 []",
        b"2 nonsense",
        b'2 [["", "jti", 5]]',
        b"x" * (MAX_BYTES + 1),
    ],
)
async def test_a_foreign_record_does_not_end_a_cold_start(
    redis_server: RedisServer, make_settings: MakeSettings, value: bytes
) -> None:
    """One stray key would keep every restarted instance from serving."""
    with redis_server.client() as client:
        client.set("{revokebus}:r:jti:a", value)
        client.rpush("{revokebus}:r:jti:list", "x")
        client.hset("{revokebus}:r:jti:hash", "x", "y")
    async with Engine(make_settings(redis_server.url)) as engine:
        status = engine.status()
        assert status.state == "fresh"
        assert sum(status.ignored.values()) == 3
        assert status.entries == 0
        await engine.revoke(engine.issue("alice").access_token)


@pytest.mark.parametrize("name", ["log", "meta"])
async def test_a_foreign_value_in_place_of_the_log_is_a_loss(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually, name: str
) -> None:
    """Every instance would be stale until an operator deletes it, or forget what the log had."""
    with redis_server.client() as client:
        async with Engine(make_settings(redis_server.url)) as engine:
            token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
            await engine.revoke(token)
            client.delete(f"{{revokebus}}:{name}", f"{{revokebus}}:r:jti:{token.jti}")
            client.set(f"{{revokebus}}:{name}", "stray")
            await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))
            await eventually(lambda: engine.status().last_error is None)


async def test_a_storm_of_foreign_epochs_is_weathered(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A stranger on the channel could make every instance flood Redis with requests."""
    settings = make_settings(redis_server.url, tick_interval=0.5)
    with redis_server.client() as client:
        async with Engine(settings) as engine:
            await eventually(lambda: engine.status().subscribed)
            token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
            before = client.info("commandstats")["cmdstat_xrange"]["calls"]
            started = time.monotonic()
            for number in range(2000):
                client.publish("{revokebus}:ch", f"RB {EPOCH} 0-0 {number}-1 1 []")
            await engine.revoke(token)
            await eventually(lambda: (engine.status().staleness or 9) < 0.1)
            seconds = time.monotonic() - started
            calls = client.info("commandstats")["cmdstat_xrange"]["calls"] - before
            assert calls <= 60 * seconds + 10
