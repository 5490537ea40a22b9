"""Redis loses a million revocations: what that costs the instances that hold them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.cold_start import COUNT, write_log
from load_tests.fleet.held import HeldServer, processor_seconds
from load_tests.fleet.ticks import most
from load_tests.measure import log_errors_only, progress, tell
from load_tests.stalls import longest_stall
from revokebus.engine.engine import Engine
from revokebus.settings.settings import Settings

if TYPE_CHECKING:
    from revokebus.testing import RedisServer

INSTANCES = 2
LONGEST = 300.0
YOUNG = 2.0


def main() -> None:
    """Measure, or be an instance that is measured."""
    if len(sys.argv) > 1:
        asyncio.run(instance(sys.argv[1]))
        return
    with HeldServer() as server:
        with server.client() as client:
            write_log(client)
        command = [sys.executable, "-m", "load_tests.fleet.lost", server.url]
        instances = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
            for _ in range(INSTANCES)
        ]
        try:
            measure(server, instances)
        finally:
            for each in instances:
                each.kill()
                each.wait()


def measure(server: RedisServer, instances: list[subprocess.Popen[str]]) -> None:
    """Let them load their copies, take everything away, and wait until it is back."""
    for each in instances:
        assert each.stdout is not None
        each.stdout.readline()
    progress(0.4)
    began = time.perf_counter()
    with server.client() as client:
        client.flushall()
        while client.dbsize() < COUNT:
            if time.perf_counter() - began > LONGEST:
                raise TimeoutError("not everything was written back")
            time.sleep(0.2)
    took = time.perf_counter() - began
    progress(0.9)
    answers = []
    for each in instances:
        assert each.stdin is not None
        assert each.stdout is not None
        print("back", file=each.stdin, flush=True)
        answers.append(json.loads(each.stdout.readline()))
    of = f"after Redis has lost {COUNT:,} revocations"
    memory = max(answer["memory"] for answer in answers) / 1e6
    tell(most(f"memory that an instance needs beside its copy, {of}", memory, "MB", None))
    spent = max(answer["processor"] for answer in answers)
    tell(most(f"processor that an instance needs, {of}", spent, "s", None))
    stall = max(answer["stall"] for answer in answers) * 1e3
    tell(most(f"longest stall of an instance's loop, {of}", stall, "ms", None))
    tell(most(f"until all is back in Redis, {of}, {INSTANCES} instances", took, "s", None))


async def instance(url: str) -> None:
    """Hold a million revocations, and say what it took to write them back."""
    settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url=url, startup_timeout=120)
    async with Engine(settings) as engine:
        assert engine.status().entries >= COUNT
        before, spent = peak_from_here(), processor_seconds(os.getpid())
        async with longest_stall() as stall:
            print("full", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            async with asyncio.timeout(LONGEST):
                while not is_done(engine):  # noqa: ASYNC110 - it has no event for that
                    await asyncio.sleep(0.1)
        answer = {
            "memory": peak() - before,
            "processor": processor_seconds(os.getpid()) - spent,
            "stall": stall.longest,
        }
    print(json.dumps(answer), flush=True)


def is_done(engine: Engine) -> bool:
    """Return whether it has nothing left to write back, and is proven again."""
    status = engine.status()
    return not status.unsaved and status.state == "fresh" and (status.staleness or 0.0) < YOUNG


def peak_from_here() -> int:
    """Return the memory that this process has, in bytes; the peak counts from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (each for each in lines if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    log_errors_only()
    main()
