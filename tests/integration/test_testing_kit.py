"""The fixtures for users' own suites, and the way to Redis that breaks on command."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from revokebus import AccessToken, RevokeBus
from revokebus.engine.engine import Engine
from revokebus.testing import Kit, Link, RedisServer
from revokebus.testing.redis_server import embedded_valkey
from tests.support import settle, until_quiet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis

    from tests.support import Eventually, MakeSettings

ROOT = Path(__file__).parents[2]
SLOW = {"tick_interval": 20.0, "max_staleness": 120.0, "redis_timeout": 5.0}


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


def test_the_page_is_a_suite_that_passes(tmp_path: Path) -> None:
    """Whoever copies the page would begin with tests that fail, or without fixtures."""
    page = (ROOT / "docs" / "testing.md").read_text()
    program, *tests = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "test_shop.py").write_text("\n\n".join(tests))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout


@asynccontextmanager
async def pair_of_engines(
    link: Link, redis_server: RedisServer, make_settings: MakeSettings
) -> AsyncIterator[tuple[Engine, Engine]]:
    """Yield one that writes, and one behind the link, which looks at the log by itself seldom."""
    with link:
        settings = make_settings(redis_server.url, **SLOW), make_settings(link.url, **SLOW)
        async with Engine(settings[0]) as author, Engine(settings[1]) as behind:
            await until_quiet(behind)
            yield author, behind


@pytest.fixture
def link(redis_server: RedisServer) -> Link:
    settle(redis_server)
    return Link(*redis_server.address)


async def access(engine: Engine) -> AccessToken:
    return await engine.authenticate(engine.issue("alice").access_token, AccessToken)


async def test_messages_are_held_and_released_in_any_order(
    link: Link, redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Nobody could test what his application does with a late revocation."""
    async with pair_of_engines(link, redis_server, make_settings) as (author, behind):
        tokens = [await access(author) for _ in range(3)]
        link.hold()
        for token in tokens:
            await author.revoke(token)
        await eventually(lambda: link.held == 3)
        assert not any(behind.is_revoked(token.claims) for token in tokens)
        link.release(reverse=True)
        await eventually(lambda: all(behind.is_revoked(token.claims) for token in tokens))
        assert behind.counts.gaps >= 1  # it has noticed that they came in the wrong order


async def test_a_dropped_message_is_noticed_by_the_next(
    link: Link, redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A test of a lossy network would pass because nothing is lost."""
    async with pair_of_engines(link, redis_server, make_settings) as (author, behind):
        lost, heard = await access(author), await access(author)
        link.drop()
        await author.revoke(lost)
        await eventually(lambda: link.dropped == 1)
        assert not behind.is_revoked(lost.claims)
        link.heal()
        await author.revoke(heard)
        await eventually(lambda: behind.is_revoked(lost.claims))


async def test_a_partition_lets_nothing_through(
    link: Link, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """An application would seem to survive an outage that never was."""
    with link:
        settings = make_settings(link.url, max_staleness=0.5)
        async with Engine(settings) as behind:
            assert behind.status().state == "fresh"
            link.partition()
            await eventually(lambda: behind.status().state == "stale")
            assert not behind.status().subscribed
            link.heal()
            await eventually(lambda: behind.status().state == "fresh")
            await eventually(lambda: behind.status().subscribed)
            before = behind.counts.subscriptions
            link.cut()
            await eventually(lambda: behind.counts.subscriptions > before)
            assert behind.status().state == "fresh"


async def test_a_way_passes_everything_else(link: Link, client: redis.Redis) -> None:
    """Large answers, and many at once, would be cut short by the tool and not by the network."""
    client.set("large", b"x" * 5_000_000)
    with link:
        import redis.asyncio as aio  # noqa: PLC0415

        async with aio.Redis.from_url(link.url) as through:
            assert len(await through.get("large") or b"") == 5_000_000
            await asyncio.gather(*(through.set(f"k{n}", n) for n in range(50)))
            assert client.dbsize() >= 51


def test_a_user_is_signed_out_from_a_test_that_is_not_async(revokebus_kit: Kit) -> None:
    """A sync suite, as most are, could not revoke."""
    app = FastAPI()
    bus = RevokeBus.attach(app, revokebus_kit.settings(), clock=revokebus_kit.clock)
    alice = revokebus_kit.sign_in(bus, "alice")
    with TestClient(app):
        assert revokebus_kit.sign_out(bus, alice).revocations == 1
        assert revokebus_kit.revoke(bus, alice).revocations == 1
    assert alice.access_token not in repr(alice)
    with pytest.raises(RuntimeError, match="TestClient"):
        revokebus_kit.revoke(bus, alice)


class Answer:
    def __init__(self, status_code: int, challenge: str = "") -> None:
        self.status_code = status_code
        self.headers = {"www-authenticate": challenge}


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Kit.assert_accepted, Answer(200), Answer(401)),
        (Kit.assert_accepted, Answer(404), Answer(503)),
        (Kit.assert_accepted, Answer(200), Answer(500)),
        (
            Kit.assert_revoked,
            Answer(401, 'error_description="Token has been revoked"'),
            Answer(200),
        ),
        (Kit.assert_revoked, Answer(401, "the same, revoked"), Answer(401, "expired")),
        (Kit.assert_unknown, Answer(503), Answer(401)),
    ],
)
def test_assertions_fail_where_they_should(
    check: Callable[[Answer], None], right: Answer, wrong: Answer
) -> None:
    """A user's test would pass although his route lets everybody in."""
    check(right)
    with pytest.raises(AssertionError, match=f"the answer is {wrong.status_code}"):
        check(wrong)


def test_no_one_else_is_given_the_port_of_a_server() -> None:
    """A user's suite would fail now and then, because another program was given the port."""
    server = RedisServer()
    for state in ("new", "running", "stopped"):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
        # Even a connection to itself, which the kernel allows, cannot come about.
        with socket.socket() as other:
            is_refused = bool(other.connect_ex(("127.0.0.1", server.port)))
        assert is_refused == (state != "running")
        if state == "new":
            server.start()
        else:
            server.stop()
    server.start()
    server.remove()


def test_a_port_that_stays_taken_is_said() -> None:
    """A test would write to whoever else listens there."""
    server = RedisServer()
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(RuntimeError, match="in use"),
    ):
        server.start()
    assert not server.running
