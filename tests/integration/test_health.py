"""What an orchestrator is told, of a process in front of a real Redis."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Route

from revokebus import RevokeBus, Settings, health_endpoints
from revokebus.engine.engine import Engine
from revokebus.testing import AppServer
from revokebus.testing.redis_server import embedded_valkey
from tests.support import SECRET

if TYPE_CHECKING:
    from revokebus.testing import RedisServer
    from tests.support import MakeSettings

OPERATE = Path(__file__).parents[2] / "examples" / "operate"


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


def wait_for(url: str, status: int) -> httpx2.Response:
    deadline = time.monotonic() + 15
    while (answer := httpx2.get(url)).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)
    return answer


@pytest.mark.parametrize(
    ("policy", "when_stale"), [("reject", 503), ("accept", 200), ("ask_redis", 503)]
)
def test_readiness_follows_the_copy(
    redis_server: RedisServer, policy: str, when_stale: int
) -> None:
    """A load balancer would send requests to an instance that must refuse them all."""
    environment = {
        "REVOKEBUS_SECRET_KEY": SECRET,
        "REVOKEBUS_REDIS_URL": redis_server.url,
        "REVOKEBUS_MAX_STALENESS": "0.5",
        "REVOKEBUS_TICK_INTERVAL": "0.1",
        "REVOKEBUS_REDIS_TIMEOUT": "0.2",
        "REVOKEBUS_ON_STALE": policy,
    }
    app = AppServer("tests.health_app:app", environment)
    app.start()
    try:
        ready, live = f"{app.url}/readyz", f"{app.url}/livez"
        assert wait_for(ready, 200).json() == {"status": "ready", "state": "fresh"}
        redis_server.freeze()
        deadline = time.monotonic() + 10
        while httpx2.get(ready).json()["state"] == "fresh":
            assert time.monotonic() < deadline
        answer = httpx2.get(ready)
        assert (answer.status_code, answer.json()["state"]) == (when_stale, "stale")
        assert answer.headers["cache-control"] == "no-store"
        assert httpx2.get(live).status_code == 200
        redis_server.thaw()
        assert wait_for(ready, 200).json()["status"] == "ready"
    finally:
        app.stop()


def test_a_process_without_a_copy_is_not_ready(redis_server: RedisServer) -> None:
    """A deployment during an outage would take every request, and refuse it."""
    redis_server.freeze()
    environment = {
        "REVOKEBUS_SECRET_KEY": SECRET,
        "REVOKEBUS_REDIS_URL": redis_server.url,
        "REVOKEBUS_STARTUP_TIMEOUT": "0.2",
        "REVOKEBUS_ON_STALE": "accept",  # there is nothing yet that could be accepted by
    }
    app = AppServer("tests.health_app:app", environment)
    app.start()
    try:
        answer = httpx2.get(f"{app.url}/readyz")
        assert (answer.status_code, answer.json()["state"]) == (503, "starting")
        assert httpx2.get(f"{app.url}/livez").status_code == 200
        redis_server.thaw()
        wait_for(f"{app.url}/readyz", 200)
    finally:
        redis_server.thaw()
        app.stop()


def test_a_copy_without_room_is_ready_while_redis_answers(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """An instance that has to ask Redis about each token would be sent requests in an outage."""
    environment = {
        "REVOKEBUS_SECRET_KEY": SECRET,
        "REVOKEBUS_REDIS_URL": redis_server.url,
        "REVOKEBUS_MAX_ENTRIES": "1",
        "REVOKEBUS_REDIS_TIMEOUT": "0.2",
    }
    app = AppServer("tests.health_app:app", environment)
    app.start()

    async def revoke_two() -> None:
        async with Engine(make_settings(redis_server.url)) as bus:
            for subject in ("alice", "bob"):
                await bus.revoke_subject(subject)

    try:
        asyncio.run(revoke_two())
        wait_for(f"{app.url}/readyz", 200)
        redis_server.freeze()
        assert wait_for(f"{app.url}/readyz", 503).json()["state"] == "fresh"
        redis_server.thaw()
        wait_for(f"{app.url}/readyz", 200)
    finally:
        redis_server.thaw()
        app.stop()


def test_paths_can_be_chosen(make_settings: MakeSettings) -> None:
    """An application whose path is taken could not use them."""
    app = FastAPI()
    RevokeBus.attach(app, make_settings())
    app.include_router(health_endpoints(live="/alive", ready="/ready"), prefix="/internal")
    with TestClient(app) as client:
        assert client.get("/internal/alive").status_code == 200
        assert client.get("/internal/ready").json()["state"] == "fresh"
        assert client.get("/readyz").status_code == 404
    assert "/internal/ready" not in app.openapi()["paths"]
    assert TestClient(app).get("/internal/ready").json()["state"] == "closed"


def test_the_examples_ask_for_what_is_served() -> None:
    """A probe for a path that does not exist would never let an instance in."""
    compose = yaml.safe_load((OPERATE / "docker-compose.yml").read_text())
    servers = {"primary", "replica-1", "replica-2", "sentinel-1", "sentinel-2", "sentinel-3"}
    assert servers | {"app"} == set(compose["services"])
    environment = compose["services"]["app"]["environment"]
    url = environment["REVOKEBUS_REDIS_URL"]
    settings = Settings(
        secret_key=SECRET, redis_url=url, min_replicas=environment["REVOKEBUS_MIN_REPLICAS"]
    )
    assert settings.min_replicas == 1
    documents = list(yaml.safe_load_all((OPERATE / "kubernetes.yaml").read_text()))
    (container,) = documents[0]["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    served = {route.path for route in health_endpoints().routes if isinstance(route, Route)}
    assert paths == served
    for variable in container["env"]:
        name = variable["name"].removeprefix("REVOKEBUS_").lower()
        assert name in Settings.model_fields


def test_the_program_of_the_containers_starts(redis_server: RedisServer) -> None:
    """The image would be built, and end at once."""
    environment = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis_server.url}
    app = AppServer("examples.operate.app:app", environment)
    app.start()
    try:
        assert wait_for(f"{app.url}/readyz", 200).json()["state"] == "fresh"
    finally:
        app.stop()
