"""Programs written for fastapi-jwt-auth, in the two shapes in which it keeps revoked tokens."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import redis as redis_py
from fastapi.testclient import TestClient

from revokebus import RevokeBus
from revokebus.compat.fastapi_jwt_auth import AuthJWT
from revokebus.compat.fastapi_jwt_auth.config import Config
from revokebus.testing.redis_server import embedded_valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from revokebus.testing import RedisServer
    from tests.support import MakeSettings

CARD = {"reader": "ada", "word": "lovelace"}
# They sign with "secret", which PyJWT warns of from 2.11 on, and use `setex`, which redis-py does.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The HMAC key is"),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


@pytest.fixture(autouse=True)
def as_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class has the configuration, so each program is to find it as it was imported."""
    monkeypatch.setattr(AuthJWT, "config", Config())
    monkeypatch.setattr(AuthJWT, "loader", None)
    monkeypatch.setattr(AuthJWT, "seen", None)


@pytest.fixture
def load(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> Iterator[Callable[[str], Any]]:
    """Start a program; it finds our server where it expects one at port 6379."""
    host, port = redis_server.address
    connections: list[redis_py.Redis] = []

    class Here(redis_py.Redis):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "host": host, "port": port})
            connections.append(self)

    monkeypatch.setattr(redis_py, "Redis", Here)

    def run(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name := f"tests.programs.{name}", raising=False)
        return importlib.import_module(name)

    yield run
    for connection in connections:
        connection.close()


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


PROGRAMS = pytest.mark.parametrize("program", ["in_memory", "in_redis"])


@PROGRAMS
def test_a_program_runs(load: Callable[[str], Any], program: str) -> None:
    """Whoever has it in production would be stranded with an old FastAPI."""
    with TestClient(load(program).app) as client:
        answer = client.post("/cards", json={**CARD, "word": "x"})
        assert (answer.status_code, answer.json()) == (401, {"detail": "No such reader"})
        pair = client.post("/cards", json=CARD).json()
        access, refresh = header(pair["access_token"]), header(pair["refresh_token"])
        assert client.get("/loans", headers=access).json() == {"reader": "ada"}
        answer = client.get("/loans", headers=refresh)
        assert answer.status_code == 422
        assert answer.json() == {"detail": "Only access tokens are allowed"}
        answer = client.get("/loans")
        assert (answer.status_code, answer.json()) == (
            401,
            {"detail": "Missing Authorization Header"},
        )
        renewed = header(client.post("/cards/renewal", headers=refresh).json()["access_token"])
        assert client.get("/loans", headers=renewed).status_code == 200

        answer = client.delete("/cards/access", headers=access)
        assert answer.json() == {"detail": "The access token counts no more"}
        answer = client.get("/loans", headers=access)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Token has been revoked"})
        assert client.get("/loans", headers=renewed).status_code == 200
        answer = client.delete("/cards/refresh", headers=refresh)
        assert answer.json() == {"detail": "The refresh token counts no more"}
        answer = client.post("/cards/renewal", headers=refresh)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Token has been revoked"})


def test_the_redis_keeps_what_it_kept(
    load: Callable[[str], Any], redis_server: RedisServer
) -> None:
    """An instance that still runs the old library would not see what was revoked."""
    with TestClient(load("in_redis").app) as client, redis_server.client() as redis:
        token = client.post("/cards", json=CARD).json()["access_token"]
        client.delete("/cards/access", headers=header(token))
        jti = jwt.decode(token, options={"verify_signature": False})["jti"]
        assert redis.get(jti) == b"true"
        assert 0 < redis.ttl(jti) <= 900
        # And the other way round.
        other = client.post("/cards", json=CARD).json()["access_token"]
        jti = jwt.decode(other, options={"verify_signature": False})["jti"]
        redis.set(jti, "true", ex=60)
        assert client.get("/loans", headers=header(other)).status_code == 401


@PROGRAMS
def test_with_a_bus_it_gains_push(
    load: Callable[[str], Any],
    program: str,
    make_settings: MakeSettings,
    redis_server: RedisServer,
) -> None:
    """What another service revokes would be accepted by the program until it expires."""
    app = load(program).app
    bus = RevokeBus.attach(app, make_settings(redis_server.url))
    other_settings = make_settings(redis_server.url)
    with TestClient(app) as client:
        assert client.portal is not None
        pair = client.post("/cards", json=CARD).json()
        access, refresh = header(pair["access_token"]), header(pair["refresh_token"])
        claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
        assert client.get("/loans", headers=access).status_code == 200

        async def revoke_elsewhere() -> None:
            async with RevokeBus(other_settings) as other:
                receipt = await other.revoke_claim(
                    "jti", claims["jti"], confirm="fleet", timeout=20
                )
                assert {each.outcome for each in receipt.confirmations or ()} == {"applied"}

        client.portal.call(revoke_elsewhere)
        answer = client.get("/loans", headers=access)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Token has been revoked"})
        # Both tokens of a sign-in, and those made from them, are one session.
        renewed = header(client.post("/cards/renewal", headers=refresh).json()["access_token"])
        client.portal.call(bus.revoke_session, claims["sid"])
        assert client.get("/loans", headers=renewed).status_code == 401
        assert client.post("/cards/renewal", headers=refresh).status_code == 401
        # What it had goes on working.
        access = header(client.post("/cards", json=CARD).json()["access_token"])
        client.delete("/cards/access", headers=access)
        assert client.get("/loans", headers=access).status_code == 401


def test_the_bus_is_asked_without_a_network(
    load: Callable[[str], Any], make_settings: MakeSettings, redis_server: RedisServer
) -> None:
    """Each request would wait for Redis, and an outage of it would be one of the program."""
    app = load("in_memory").app
    bus = RevokeBus.attach(app, make_settings(redis_server.url, redis_timeout=0.3))
    with TestClient(app) as client:
        assert client.portal is not None
        tokens = [client.post("/cards", json=CARD).json()["access_token"] for _ in range(2)]
        jti = jwt.decode(tokens[0], options={"verify_signature": False})["jti"]
        client.portal.call(bus.revoke_claim, "jti", jti)
        redis_server.freeze()
        try:
            found = [client.get("/loans", headers=header(t)).status_code for t in tokens]
        finally:
            redis_server.thaw()
        assert found == [401, 200]
