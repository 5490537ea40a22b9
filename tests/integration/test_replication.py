from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from revokebus import AccessToken, RevokeBus
from revokebus.engine.engine import Engine
from revokebus.errors import ConfigurationError, NotReplicatedError

if TYPE_CHECKING:
    from revokebus.testing import RedisServer, SentinelServers
    from tests.support import Eventually, MakeSettings


async def test_the_receipt_counts_the_replicas(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """An operator would believe in copies that nobody has."""
    async with Engine(make_settings(sentinels.url)) as engine:
        pair = engine.issue("alice")
        assert (await engine.revoke(pair.access_token, min_replicas=1)).replicas == 1
        assert (await engine.revoke_session(pair.session_id, min_replicas=1)).replicas == 1
        assert (await engine.revoke(pair.refresh_token)).replicas is None


async def test_the_setting_is_the_default(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """Each call that forgets to ask would be less durable than the operator demands."""
    async with Engine(make_settings(sentinels.url, min_replicas=1)) as engine:
        assert (await engine.revoke(engine.issue("alice").access_token)).replicas == 1
        receipt = await engine.revoke(engine.issue("bob").access_token, min_replicas=0)
        assert receipt.replicas is None


async def test_too_few_replicas_are_an_error_with_a_receipt(
    sentinels: SentinelServers, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A revocation that a failover may lose would be reported as safe."""
    settings = make_settings(sentinels.url)
    async with Engine(settings) as engine, Engine(settings) as other:
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        sentinels.servers[1].freeze()
        try:
            with pytest.raises(NotReplicatedError, match="0 of the 1") as error:
                await engine.revoke(token, min_replicas=1)
        finally:
            sentinels.servers[1].thaw()
        assert error.value.receipt.position
        assert error.value.receipt.replicas == 0
        assert engine.status().unsaved == 0  # it is recorded
        await eventually(lambda: other.is_revoked({"jti": token.jti}))


async def test_a_server_alone_has_no_replicas(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """WAIT on another connection than the write's counts what was never sent."""
    async with Engine(make_settings(redis_server.url)) as engine:
        with pytest.raises(NotReplicatedError, match="0 of the 2"):
            await engine.revoke(engine.issue("alice").access_token, min_replicas=2)


async def test_memory_has_no_replicas(make_settings: MakeSettings) -> None:
    """A demand that cannot be met would be taken for met."""
    async with Engine(make_settings()) as engine:
        with pytest.raises(ConfigurationError, match="no replicas"):
            await engine.revoke(engine.issue("alice").access_token, min_replicas=1)


def test_over_http_it_is_a_503(redis_server: RedisServer, make_settings: MakeSettings) -> None:
    """A client would be told that he is signed out safely, or see a stack trace."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings(redis_server.url))

    @app.post("/logout")
    async def logout() -> None:
        await bus.revoke(bus.issue("alice").access_token, min_replicas=1)

    with TestClient(app) as client:
        answer = client.post("/logout")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Revoked: not replicated yet"})
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True, 10**20])
async def test_a_number_of_replicas_that_cannot_be_is_refused_first(
    redis_server: RedisServer, make_settings: MakeSettings, wrong: object
) -> None:
    """It would be found out after the token was refused, with the error of another library."""
    async with Engine(make_settings(redis_server.url)) as engine:
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        with pytest.raises(ValueError, match="min_replicas"):
            await engine.revoke(token, min_replicas=wrong)  # type: ignore[arg-type]  # on purpose
        assert not engine.is_revoked({"jti": token.jti})
