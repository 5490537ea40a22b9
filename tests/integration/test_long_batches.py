"""A batch of many sessions and one sign-out, by each way on which it can reach an instance."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from revokebus.cli.commands import app
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import encode_payload
from tests.support import SECRET

if TYPE_CHECKING:
    import pytest
    import redis

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

# 2^300 steps, where each row can be read in two ways.
SESSIONS = [secrets.token_urlsafe(16) for _ in range(300)]


def batch() -> list[Revocation]:
    last = time.time() // 1 + 600
    sign_out = Revocation("sub", "alice", last, time.time())
    return [*(Revocation("sid", each, last) for each in SESSIONS), sign_out]


def knows_all(*engines: Engine) -> bool:
    claims = [{"sid": each} for each in SESSIONS] + [{"sub": "alice", "iat": 1.0}]
    return all(engine.is_revoked(each) for engine in engines for each in claims)


async def test_the_outbox_writes_it(
    fleet: list[Engine], redis_server: RedisServer, eventually: Eventually
) -> None:
    """A user who signs out everywhere while Redis is away would stop every instance for hours."""
    await eventually(lambda: all(engine.status().subscribed for engine in fleet))
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        ended = [fleet[0].revoke_session(each) for each in SESSIONS]
        some = await asyncio.gather(
            *ended, fleet[0].revoke_subject("alice"), return_exceptions=True
        )
        assert all(isinstance(each, NotDurableError) for each in some)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    await eventually(lambda: knows_all(*fleet))
    await eventually(lambda: all(engine.status().state == "fresh" for engine in fleet))


async def test_the_repair_writes_it(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """After FLUSHALL every instance would hang in reading what one has written back."""
    await fleet[0]._revoker.revoke(batch())
    await eventually(lambda: knows_all(*fleet))
    client.flushall()
    await eventually(lambda: len(client.keys("{revokebus}:r:*")) == len(SESSIONS) + 1)
    await eventually(lambda: all(engine.status().state == "fresh" for engine in fleet))


async def test_a_stranger_publishes_it(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """Whoever may publish on the channel could stop every instance with one message."""
    await eventually(lambda: all(engine.status().subscribed for engine in fleet))
    epoch = fleet[0]._backend._started.run.continuity.epoch  # type: ignore[attr-defined]  # a RedisBackend
    payload = encode_payload(batch())
    client.publish("{revokebus}:ch", f"RB {epoch} 0-0 0-0 ".encode() + payload)
    others = [Revocation("sid", f"other-{n}", time.time() // 1 + 600) for n in range(12_000)]
    long = encode_payload([*others, *batch()])
    client.publish("{revokebus}:ch", f"RB {epoch} 0-0 0-1 ".encode() + long)
    await eventually(lambda: knows_all(*fleet))
    await eventually(lambda: all(e.is_revoked({"sid": "other-11999"}) for e in fleet))
    await eventually(lambda: all(engine.status().state == "fresh" for engine in fleet))


async def test_it_is_in_the_log_at_a_start(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """No instance would come up, as long as the row is in the log: 33 days."""
    async with Engine(make_settings(redis_server.url)) as running:
        client.xadd("{revokebus}:log", {"r": encode_payload(batch())})
        await eventually(lambda: knows_all(running))
    # A log whose first row is older than any token is read as a whole by whoever starts.
    client.delete("{revokebus}:log")
    client.xadd("{revokebus}:log", {"r": encode_payload([])}, id="1-0")
    client.xadd("{revokebus}:log", {"r": encode_payload(batch())}, id="2-0")
    async with Engine(make_settings(redis_server.url)) as late:
        assert late.status().state == "fresh"
        assert knows_all(late)


async def test_a_backup_brings_it(
    fleet: list[Engine],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    """Whoever restores a backup would stop the fleet that it is restored for."""
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", redis_server.url)
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", SECRET)
    lines = "\n".join(
        json.dumps(
            {
                "iss": each.issuer,
                "claim": each.claim,
                "value": each.value,
                "expires_at": each.expires_at,
                "issued_before": each.issued_before,
            }
        )
        for each in batch()
    )
    result = await asyncio.to_thread(CliRunner().invoke, app, ["import"], input=lines)
    assert result.exit_code == 0, result.output
    await eventually(lambda: knows_all(*fleet))
    result = await asyncio.to_thread(CliRunner().invoke, app, ["export"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(SESSIONS) + 1
