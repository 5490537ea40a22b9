"""Three uvicorn processes on one real server, spoken to over HTTP."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import httpx2
import jwt
import pytest

from revokebus.testing import AppServer, serving
from revokebus.testing.redis_server import embedded_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

SECRET = secrets.token_urlsafe(64)
PASSWORDS = {"alice": "wonderland", "bob": "builder"}


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


def environment(redis_server: RedisServer) -> dict[str, str]:
    return {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis_server.url}


@pytest.fixture
def instances(redis_server: RedisServer) -> Iterator[list[AppServer]]:
    # Whatever asked a frozen Redis would wait for half a minute, and the client gives up sooner.
    settings = {**environment(redis_server), "REVOKEBUS_REDIS_TIMEOUT": "30"}
    servers = [AppServer("examples.redis_app:app", settings) for _ in range(3)]
    with serving(*servers):
        yield servers


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=5) as client:
        yield client


def sign_in(http: httpx2.Client, instance: AppServer, user: str) -> dict[str, str]:
    body = {"username": user, "password": PASSWORDS[user]}
    pair = http.post(f"{instance.url}/login", json=body).raise_for_status().json()
    return {kind: f"Bearer {pair[f'{kind}_token']}" for kind in ("access", "refresh")}


def status(http: httpx2.Client, instance: AppServer, token: str) -> int:
    answer = http.get(f"{instance.url}/protected", headers={"Authorization": token})
    return answer.status_code


def refresh(http: httpx2.Client, instance: AppServer, tokens: dict[str, str]) -> httpx2.Response:
    return http.post(f"{instance.url}/refresh", headers={"Authorization": tokens["refresh"]})


def test_a_token_revoked_at_one_is_refused_by_all(
    redis_server: RedisServer, instances: list[AppServer], http: httpx2.Client
) -> None:
    """The product would not do what it is for."""
    alice, bob = (sign_in(http, instances[0], user) for user in ("alice", "bob"))
    assert [status(http, one, alice["access"]) for one in instances] == [200] * 3

    header = {"Authorization": alice["access"]}
    http.delete(f"{instances[1].url}/access-revoke", headers=header).raise_for_status()
    acknowledged = time.monotonic()
    while [status(http, one, alice["access"]) for one in instances] != [401] * 3:
        assert time.monotonic() < acknowledged + 1.0

    # Another user's token, and the other token of the same user, go on working.
    assert [status(http, one, bob["access"]) for one in instances] == [200] * 3
    renewed = http.post(f"{instances[2].url}/refresh", headers={"Authorization": alice["refresh"]})
    assert renewed.status_code == 200

    # A second revocation is harmless: the token is refused by now, and nothing else changes.
    again = http.delete(f"{instances[2].url}/access-revoke", headers=header)
    assert again.status_code == 401
    assert again.json() == {"detail": "Token has been revoked"}

    # The record lives as long as the token would have.
    claims = jwt.decode(alice["access"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    with redis_server.client() as client:
        ttl = client.ttl(f"{{revokebus}}:r:jti:{claims['jti']}")
    life = claims["exp"] + 2 * 30 - time.time()  # and twice the leeway
    assert 0 <= ttl - life <= 2

    # An instance that starts now refuses too, and so does one that starts again.
    with AppServer("examples.redis_app:app", environment(redis_server)) as late:
        assert status(http, late, alice["access"]) == 401
        assert status(http, late, bob["access"]) == 200
    instances[0].kill()
    instances[0].start()
    assert status(http, instances[0], alice["access"]) == 401


def test_an_outage_of_redis_is_not_noticed_by_requests(
    redis_server: RedisServer, instances: list[AppServer], http: httpx2.Client
) -> None:
    """Every request would wait for a Redis that does not answer, or fail with it."""
    alice, bob = (sign_in(http, instances[0], user) for user in ("alice", "bob"))
    header = {"Authorization": alice["access"]}
    http.delete(f"{instances[0].url}/access-revoke", headers=header).raise_for_status()
    while [status(http, one, alice["access"]) for one in instances] != [401] * 3:
        time.sleep(0.005)

    def check() -> None:
        for one in instances:
            assert status(http, one, bob["access"]) == 200
            assert status(http, one, alice["access"]) == 401

    redis_server.freeze()
    for _ in range(50):
        check()
    redis_server.thaw()
    redis_server.stop()
    for _ in range(50):
        check()

    # Revoking says what is the matter; the refresh token is not used up by the attempt.
    answer = http.delete(
        f"{instances[0].url}/access-revoke", headers={"Authorization": bob["access"]}
    )
    assert answer.status_code == 503
    assert "Signed out here" in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "1"
    assert status(http, instances[0], bob["access"]) == 401
    answer = http.post(f"{instances[1].url}/refresh", headers={"Authorization": bob["refresh"]})
    assert answer.status_code == 503

    # When Redis is back, what was applied in one place is applied everywhere.
    redis_server.start()
    deadline = time.monotonic() + 5
    while [status(http, one, bob["access"]) for one in instances] != [401] * 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Refreshing waits until nobody can know more than Redis, which is about a second.
    while (again := refresh(http, instances[1], bob)).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert again.status_code == 200


def test_an_application_starts_without_redis_and_recovers(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """A deployment while Redis is away would fail, or serve what is revoked."""
    redis_server.stop()
    settings = {**environment(redis_server), "REVOKEBUS_STARTUP_TIMEOUT": "0.1"}
    with AppServer("examples.redis_app:app", settings) as instance:
        token = sign_in(http, instance, "alice")["access"]
        answer = http.get(f"{instance.url}/protected", headers={"Authorization": token})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert "not been loaded" in answer.json()["detail"]
        assert "startup_timeout" in instance.printed()
        redis_server.start()
        deadline = time.monotonic() + 5
        while status(http, instance, token) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"REVOKEBUS_SECRET_KEY": ""}, "REVOKEBUS_SECRET_KEY"),
        ({"REVOKEBUS_SECRET_KEY": "short"}, "REVOKEBUS_SECRET_KEY"),
        ({"REVOKEBUS_REDIS_URL": "http://x"}, "REVOKEBUS_REDIS_URL"),
        ({"REVOKEBUS_ACCESS_TTL": "-1"}, "access_ttl"),
    ],
)
def test_a_wrong_setting_ends_the_start_by_name(change: dict[str, str], words: str) -> None:
    """A misconfigured application would start and fail at the first request."""
    settings = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": "memory://", **change}
    with (
        pytest.raises(RuntimeError, match=words) as caught,
        AppServer("examples.redis_app:app", settings),
    ):
        pytest.fail("started")
    assert SECRET not in str(caught.value)
