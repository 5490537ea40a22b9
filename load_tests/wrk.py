"""The load generator: wrk, from the distribution's packages."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

_CONNECTIONS = 16
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk has measured.

    Attributes:
        rate: Requests in a second.
        p50: The median of the latencies, in seconds.
        p99: Their 99th percentile, likewise.
    """

    rate: float
    p50: float
    p99: float


def load(url: str, token: str, seconds: float, connections: int = _CONNECTIONS) -> Load:
    """Send requests with a token for some seconds.

    Raises:
        RuntimeError: wrk is missing, or an answer was not 200.
    """
    binary = shutil.which("wrk")
    if binary is None:
        raise RuntimeError("wrk is missing: install it, as with `apt-get install wrk`")
    command = [
        *(binary, "--threads", "1", "--connections", str(connections), "--latency"),
        *("--duration", f"{seconds:g}s", "--header", f"Authorization: Bearer {token}", url),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"{url} did not answer all requests:\n{printed}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert rate is not None, printed
    return Load(float(rate[1]), _latency(printed, 50), _latency(printed, 99))


def _latency(printed: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", printed)
    assert found is not None, printed
    return float(found[1]) * _UNITS[found[2]]
