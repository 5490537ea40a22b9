"""What an installed RevokeBus must do, wherever it came from: ``python package_smoke.py``.

It runs outside the checkout, with nothing but the package and its dependencies.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import secrets
import subprocess
import sys

import revokebus
from revokebus import AccessToken, RevokeBus, Settings, admin_page
from revokebus.errors import RevokedTokenError


async def main() -> None:
    """Issue, check, revoke, refuse."""
    settings = Settings(secret_key=secrets.token_urlsafe(64), redis_url="memory://")
    async with RevokeBus(settings) as bus:
        encoded = bus.issue("alice").access_token
        token = await bus.authenticate(encoded, AccessToken)
        receipt = await bus.revoke(token, confirm="fleet")
        assert receipt.is_confirmed
        try:
            await bus.authenticate(encoded, AccessToken)
        except RevokedTokenError:
            pass
        else:
            raise AssertionError("a revoked token was accepted")


asyncio.run(main())
files = importlib.resources.files("revokebus")
for name in ("py.typed", "web/admin/page.html", "web/admin/page.js", "web/admin/page.css"):
    assert files.joinpath(name).is_file(), name
assert admin_page(lambda: None).routes
command = [sys.executable, "-m", "revokebus.cli", "--version"]
told = subprocess.run(command, capture_output=True, text=True, check=False)
said = told.stdout.strip() or told.stderr.strip()
print(f"Python {sys.version.split()[0]}, {revokebus.__file__}: {said}")  # noqa: T201 - its result
