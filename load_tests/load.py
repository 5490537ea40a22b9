"""Runs ``locustfile.py`` against its application, with a Redis of its own.

``python -m load_tests.load --users 100 --run-time 30s``: what follows is given to Locust.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from revokebus.testing import AppServer, RedisServer, serving

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
USUAL = ("--users", "50", "--spawn-rate", "25", "--run-time", "30s")


def main(options: list[str]) -> int:
    """Return Locust's exit status: not 0 if a request was answered as it must not be."""
    with RedisServer() as redis:
        environment = {
            "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
            "REVOKEBUS_REDIS_URL": redis.url,
        }
        app = AppServer("load_tests.application:app", environment)
        with serving(app):
            return locust(app.url, options)


def locust(url: str, options: list[str]) -> int:
    """Run Locust without its page, and return its exit status."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--host", url]
    command += ["--headless", "--only-summary", *USUAL, *options]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
