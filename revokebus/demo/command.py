"""Watch one revocation reach every instance.

It starts an embedded Valkey and three instances of `revokebus.demo.app`, signs in at one, revokes
at another, and measures at each when it began to refuse. With ``REVOKEBUS_REDIS_URL`` set, that
Redis is used instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import threading
import time
import webbrowser
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import httpx2
import redis
from rich.console import Console
from rich.table import Table

from revokebus.demo.app_user import KEY_VARIABLE, PASSWORD, USER
from revokebus.testing import AppServer, RedisServer, serving

if TYPE_CHECKING:
    from types import FrameType

INSTANCES = 3
CREDENTIALS = {"username": USER, "password": PASSWORD}
UNAUTHORIZED = 401
WARM_UP = 50
MEASURED_SECONDS = 10.0


@dataclass(frozen=True)
class Refusal:
    """When an instance was seen to change its mind, in milliseconds from the acknowledgement.

    Attributes:
        last_accepted: When the last request that it let pass was answered.
        first_refused: When the first request that it refused was answered.
    """

    last_accepted: float
    first_refused: float


def demonstrate_all(*, serve: bool, as_json: bool = False) -> int:
    """Show how a revocation reaches three instances; return the exit status.

    Args:
        serve: Whether to leave the servers up until Ctrl-C.
        as_json: Whether to print the measurements as JSON, and all else on standard error.
    """
    console = Console(stderr=as_json)
    stopping = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():  # a second Ctrl-C must not interrupt the stopping
            stopping.set()
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        with ExitStack() as servers:
            key = secrets.token_urlsafe(16)
            instances, refusals = demonstrate(console, servers, key)
            if as_json:
                print(json.dumps([asdict(each) for each in refusals]), flush=True)
            if serve:
                open_page(f"{instances[0].url}/operator?key={key}")
                print_what_to_try(console, instances)
                # The event and not the exception: Python drops one that a destructor raises.
                stopping.wait()
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything that was started has been stopped.")
        return 130
    except (RuntimeError, httpx2.HTTPError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        return 1
    return 0


def demonstrate(
    console: Console, servers: ExitStack, key: str
) -> tuple[list[AppServer], list[Refusal]]:
    """Start everything into `servers`, show what it does; return them, and when each refused.

    Args:
        console: Where to print.
        servers: What ends them.
        key: What opens the admin page.
    """
    environment = {
        "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
        "REVOKEBUS_REDIS_URL": redis_url(console, servers),
        # Apart from whatever else the Redis holds.
        "REVOKEBUS_NAMESPACE": f"revokebus-demo-{secrets.token_hex(4)}",
        # For the admin page, in a browser, over plain HTTP on loopback.
        # One that is stopped is soon seen to be stale, and a new Redis trusted to know everybody.
        "REVOKEBUS_MAX_STALENESS": "5",
        "REVOKEBUS_TOKEN_SOURCES": "header,cookie",
        "REVOKEBUS_COOKIES__SECURE": "false",
        KEY_VARIABLE: key,
    }
    instances = [AppServer("revokebus.demo.app:app", environment) for _ in range(INSTANCES)]
    with console.status(f"Starting {INSTANCES} instances ..."):
        servers.enter_context(serving(*instances))
    for number, instance in enumerate(instances, start=1):
        console.print(f"Instance {number} serves {instance.url}")
    token = sign_in(instances[0])
    header = {"Authorization": f"Bearer {token}"}
    for number, instance in enumerate(instances, start=1):
        answer = httpx2.get(f"{instance.url}/protected", headers=header)
        if not answer.is_success:
            raise RuntimeError(f"instance {number} answers {answer.status_code}: {answer.text}")
    console.print(
        "\nSigned in at instance 1. The token is used at all three; instance 2 revokes it."
    )
    with console.status("Measuring ..."):
        refusals = asyncio.run(measure([instance.url for instance in instances], header))
    console.print(table(refusals))
    with console.status("Starting a fourth instance ..."):
        late = servers.enter_context(AppServer("revokebus.demo.app:app", environment))
    status = httpx2.get(f"{late.url}/protected", headers=header).status_code
    console.print(f"Instance 4, started after the revocation, answers {status}.")
    if status != UNAUTHORIZED:
        raise RuntimeError("the late starter accepted a revoked token")
    return [*instances, late], refusals


def redis_url(console: Console, servers: ExitStack) -> str:
    """Return the user's Redis, or one that is started here."""
    if given := os.environ.get("REVOKEBUS_REDIS_URL"):
        if given.startswith("memory:"):
            raise RuntimeError(
                "it needs a Redis that three processes share; unset REVOKEBUS_REDIS_URL or name one"
            )
        try:
            with redis.Redis.from_url(given) as client:
                client.ping()
        except (redis.RedisError, ValueError) as error:
            raise RuntimeError(f"the Redis of REVOKEBUS_REDIS_URL: {error}") from error
        console.print("Using the Redis that REVOKEBUS_REDIS_URL names.")
        return given
    server = servers.enter_context(RedisServer())
    console.print(f"Embedded Valkey serves {server.url}")
    return server.url


def sign_in(instance: AppServer) -> str:
    """Return an access token from `instance`."""
    answer = httpx2.post(f"{instance.url}/login", json=CREDENTIALS).raise_for_status()
    token: str = answer.json()["access_token"]
    return token


async def measure(urls: list[str], header: dict[str, str]) -> list[Refusal]:
    """Use the token everywhere without a pause, revoke it at the second instance, and watch."""
    warm = asyncio.Barrier(len(urls) + 1)
    async with asyncio.TaskGroup() as group, httpx2.AsyncClient(headers=header) as client:
        watches = [group.create_task(watch(url, header, warm)) for url in urls]
        await warm.wait()
        (await client.delete(f"{urls[1]}/access-revoke")).raise_for_status()
        acknowledged = time.perf_counter()
    return [
        Refusal(*((moment - acknowledged) * 1000 for moment in watched.result()))
        for watched in watches
    ]


async def watch(url: str, header: dict[str, str], warm: asyncio.Barrier) -> tuple[float, float]:
    """Return when `url` last accepted and first refused the token."""
    requests, accepted = 0, 0.0
    async with httpx2.AsyncClient(base_url=url, headers=header) as client:
        deadline = time.perf_counter() + MEASURED_SECONDS
        while time.perf_counter() < deadline:
            answer = await client.get("/protected")
            now = time.perf_counter()
            if answer.status_code == UNAUTHORIZED:
                return accepted, now
            answer.raise_for_status()
            requests, accepted = requests + 1, now
            if requests == WARM_UP:
                await warm.wait()
    raise RuntimeError(f"{url} went on accepting the token for {MEASURED_SECONDS:g} s")


def table(refusals: list[Refusal]) -> Table:
    """Return the measurements, in milliseconds from the acknowledgement at the client."""
    result = Table(title="Milliseconds from the moment the revocation was acknowledged")
    result.add_column("instance")
    result.add_column("last request accepted", justify="right")
    result.add_column("first request refused", justify="right")
    for number, refusal in enumerate(refusals, start=1):
        note = " (revoked here)" if number == 2 else ""  # noqa: PLR2004 - the second one, above
        result.add_row(
            f"{number}{note}", f"{refusal.last_accepted:+.1f}", f"{refusal.first_refused:+.1f}"
        )
    result.caption = (
        "Negative: before the acknowledgement arrived. "
        "Each instance is asked again as soon as it has answered."
    )
    return result


def open_page(url: str) -> None:
    """Print the link to the admin page, and open it where there is a window to open it in."""
    print(f"\nThe fleet, live: {url}", flush=True)
    has_windows = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY")
    if has_windows and sys.stdout.isatty():
        webbrowser.open(url)


def print_what_to_try(console: Console, instances: list[AppServer]) -> None:
    """Print the requests that show it once more, by hand."""
    first, second = instances[0].url, instances[1].url
    console.print("\nTry it (Ctrl-C stops everything):\n")
    body = json.dumps(CREDENTIALS)
    login = f"curl -s {first}/login -H 'Content-Type: application/json' -d '{body}'"
    lines = [
        f"TOKEN=$({login} | cut -d '\"' -f 4)",
        *(f'curl -i {i.url}/protected -H "Authorization: Bearer $TOKEN"' for i in instances),
        f'curl -X DELETE {second}/access-revoke -H "Authorization: Bearer $TOKEN"',
        f'curl -i {first}/protected -H "Authorization: Bearer $TOKEN"',
    ]
    print("\n".join(lines), flush=True)  # as they are, without wrapping
