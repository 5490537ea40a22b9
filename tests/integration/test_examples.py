"""The programs of ``examples/``, each under uvicorn, spoken to as a client would."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx2
import pytest

from revokebus.testing import AppServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

ALICE = {"username": "alice", "password": "wonderland"}
BOB = {"username": "bob", "password": "builder"}


@pytest.fixture
def secret() -> dict[str, str]:
    return {
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_ROTATION_GRACE": "0",
    }


def client_of(server: AppServer) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=5)


def sign_in(client: httpx2.Client, user: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers of the access and of the refresh token."""
    pair = client.post("/login", json=user).raise_for_status().json()
    access, refresh = pair["access_token"], pair["refresh_token"]
    return {"Authorization": f"Bearer {access}"}, {"Authorization": f"Bearer {refresh}"}


@pytest.fixture
def memory_client(secret: dict[str, str]) -> Iterator[httpx2.Client]:
    with AppServer("examples.memory_app:app", secret) as server, client_of(server) as client:
        yield client


@pytest.fixture
def redis_client(secret: dict[str, str], redis_server: RedisServer) -> Iterator[httpx2.Client]:
    settings = {**secret, "REVOKEBUS_REDIS_URL": redis_server.url}
    with AppServer("examples.redis_app:app", settings) as server, client_of(server) as client:
        yield client


def test_the_memory_example(memory_client: httpx2.Client) -> None:
    """The first program that a newcomer runs would not work."""
    check_login_refresh_and_revocations(memory_client)


def test_the_redis_example(redis_client: httpx2.Client) -> None:
    """The program that people build upon would not work."""
    check_login_refresh_and_revocations(redis_client)


def check_login_refresh_and_revocations(client: httpx2.Client) -> None:
    assert client.post("/login", json={**ALICE, "password": "x"}).status_code == 401
    assert client.post("/login", json={"username": "eve", "password": ""}).status_code == 401
    odd = b'{"username": "alice", "password": "\\ud800"}'
    kind = {"Content-Type": "application/json"}
    assert client.post("/login", content=odd, headers=kind).status_code == 401
    access, refresh = sign_in(client, ALICE)

    # A protected route, with each kind of token and with none.
    assert client.get("/protected", headers=access).json() == {"user": "alice"}
    assert client.get("/protected", headers=refresh).status_code == 401
    assert client.get("/protected").headers["WWW-Authenticate"] == "Bearer"

    # Revoking the current access token leaves the refresh token alone.
    assert client.delete("/access-revoke", headers=access).status_code == 200
    answer = client.get("/protected", headers=access)
    assert (answer.status_code, answer.json()["detail"]) == (401, "Token has been revoked")

    # Refreshing gives a new pair, once.
    answer = client.post("/refresh", headers=refresh)
    renewed = {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}
    assert client.get("/protected", headers=renewed).json() == {"user": "alice"}
    assert client.post("/refresh", headers=refresh).status_code == 401
    assert client.get("/protected", headers=renewed).status_code == 401  # a replay ends all

    # Revoking the refresh token leaves the access token alone.
    access, refresh = sign_in(client, ALICE)
    assert client.delete("/refresh-revoke", headers=refresh).status_code == 200
    assert client.post("/refresh", headers=refresh).status_code == 401
    assert client.get("/protected", headers=access).status_code == 200


def test_the_denylist_off(secret: dict[str, str]) -> None:
    """A setting would have no effect, or revoking would pretend to work."""
    settings = {**secret, "REVOKEBUS_DENYLIST_ENABLED": "false"}
    with AppServer("examples.redis_app:app", settings) as server, client_of(server) as client:
        access, _ = sign_in(client, ALICE)
        # uvicorn closes the connection after an exception.
        answer = client.delete("/access-revoke", headers={**access, "Connection": "close"})
        assert answer.status_code == 500
        assert client.get("/protected", headers=access).status_code == 200
        assert "REVOKEBUS_DENYLIST_ENABLED" in server.printed()


@pytest.mark.parametrize(("checked", "answers"), [("access", (401, 200)), ("refresh", (200, 401))])
def test_the_denylist_for_one_type(
    secret: dict[str, str], checked: str, answers: tuple[int, int]
) -> None:
    """A setting would have no effect."""
    settings = {**secret, "REVOKEBUS_CHECKED_TOKEN_TYPES": checked}
    with AppServer("examples.memory_app:app", settings) as server, client_of(server) as client:
        access, refresh = sign_in(client, ALICE)
        client.delete("/access-revoke", headers=access).raise_for_status()
        client.delete("/refresh-revoke", headers=refresh).raise_for_status()
        assert client.get("/protected", headers=access).status_code == answers[0]
        assert client.delete("/refresh-revoke", headers=refresh).status_code == answers[1]


def test_the_applications_own_check(secret: dict[str, str]) -> None:
    """A ban list would be asked for nobody, or for everybody."""
    settings = {**secret, "REVOKEBUS_REDIS_URL": "memory://"}
    with AppServer("examples.own_check:app", settings) as server, client_of(server) as client:
        alice, _ = sign_in(client, ALICE)
        bob, refresh = sign_in(client, BOB)
        assert client.get("/protected", headers=alice).status_code == 200
        assert client.get("/protected", headers=bob).status_code == 401
        assert client.post("/refresh", headers=refresh).status_code == 401
