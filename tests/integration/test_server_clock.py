"""A Redis whose clock jumps lets records expire; running instances notice, and write them back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from revokebus.engine.engine import Engine
from revokebus.testing import RedisServer
from revokebus.tokens.claims import AccessToken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Eventually, MakeSettings

FORTY_DAYS = 40 * 86_400
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: faketime)")


class MovableServer(RedisServer):
    """A server whose clock can be set."""

    ahead_at_start = 0.0

    def _command(self, folder: Path) -> list[str]:
        self._offset = folder / "offset"
        self._offset.write_text(f"{self.ahead_at_start:+}")
        return [
            shutil.which("env") or "env",
            f"LD_PRELOAD={LIBRARY}",
            f"FAKETIME_TIMESTAMP_FILE={self._offset}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *super()._command(folder),
        ]

    def set_clock(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the machine's."""
        self._offset.write_text(f"{seconds:+}")


@pytest.fixture
def server() -> Iterator[MovableServer]:
    with MovableServer() as server:
        yield server


def records(server: RedisServer) -> int:
    with server.client() as client:
        return len(list(client.scan_iter("*:r:*")))


async def revoked(engine: Engine, count: int) -> list[AccessToken]:
    tokens = [
        await engine.authenticate(engine.issue(f"user {n}").access_token, AccessToken)
        for n in range(count)
    ]
    for token in tokens:
        await engine.revoke(token)
    return tokens


@pytest.mark.parametrize("goes_back", [True, False])
async def test_what_expired_early_is_written_back(
    server: MovableServer, make_settings: MakeSettings, eventually: Eventually, *, goes_back: bool
) -> None:
    """A process that starts then would accept every revoked token."""
    settings = make_settings(server.url, leeway=30)
    async with Engine(settings) as engine, Engine(settings) as other:
        tokens = await revoked(engine, 20)
        await eventually(lambda: all(other.is_revoked(token.claims) for token in tokens))
        server.set_clock(FORTY_DAYS)
        await eventually(lambda: engine.counts.resyncs["server_clock_jumped"] == 1)
        if goes_back:
            server.set_clock(0)
        await eventually(lambda: records(server) == 20)
        async with Engine(settings) as late:
            assert all(late.is_revoked(token.claims) for token in tokens)
        await eventually(lambda: ("clock" in (engine.status().last_error or "")) is not goes_back)


async def test_who_starts_after_the_jump_waits_for_those_who_know(
    server: MovableServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Between the jump and the next tick of a running instance it would find no record."""
    settings = make_settings(server.url, tick_interval=1.0)
    async with Engine(settings) as engine:
        tokens = await revoked(engine, 20)
        server.set_clock(FORTY_DAYS)
        await eventually(lambda: records(server) == 0)
        async with Engine(settings) as late:
            await eventually(lambda: late.status().state == "fresh")
            assert all(late.is_revoked(token.claims) for token in tokens)


async def test_a_sign_in_by_a_clock_that_jumped_does_not_survive_a_sign_out(
    server: MovableServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """It would be dated forty days ahead, and survive every cut-off until then."""
    async with Engine(make_settings(server.url, leeway=30)) as engine:
        server.set_clock(FORTY_DAYS)
        await eventually(lambda: engine.counts.resyncs["server_clock_jumped"] == 1)
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        await engine.revoke_subject("alice")
        assert engine.is_revoked(token.claims)
        again = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        assert not engine.is_revoked(again.claims)


async def test_a_server_that_was_started_again_is_listed_again(
    server: MovableServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Records that expired while it was down, by a clock that was wrong, would stay lost."""
    settings = make_settings(server.url)
    async with Engine(settings) as engine:
        await revoked(engine, 5)
        with server.client() as client:
            client.save()
        server.stop()
        server.ahead_at_start = FORTY_DAYS
        server.start()
        server.set_clock(0)
        await eventually(lambda: engine.counts.resyncs["server_changed"] > 0)
        await eventually(lambda: records(server) == 5)
