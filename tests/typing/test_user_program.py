"""The public names, as a user's strict type checker sees them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from typing import Annotated

from fastapi import Depends, FastAPI

from revokebus import (
    AccessToken, BusStatus, Receipt, RefreshToken, RevokeBus, RevokeBusError, Settings, TokenPair,
    require_access, require_refresh,
)

app = FastAPI()
settings = Settings(
    secret_key="...",
    redis_url="redis://localhost:6379/0",
    algorithms=["HS256"],
    checked_token_types={"access"},
    max_staleness=10,
)
bus = RevokeBus.attach(app, settings)


@bus.deny_if
def banned(token: AccessToken | RefreshToken) -> bool:
    return token.subject == "bob"


@app.post("/refresh")
async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> TokenPair:
    return await bus.rotate(token)


@app.delete("/logout")
async def logout(token: Annotated[AccessToken, Depends(require_access("a", "b"))]) -> Receipt:
    return await bus.revoke(token)


async def script() -> BusStatus:
    try:
        async with RevokeBus(settings) as bus:
            await bus.revoke_session("s")
            return bus.status()
    except RevokeBusError:
        raise
"""
WRONG = """
from revokebus import AccessToken, RevokeBus, require_access

async def wrong(bus: RevokeBus, token: AccessToken) -> None:
    await bus.rotate(token)
    require_access(7)
"""


def check(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy without this project's configuration, so without pydantic's plugin."""
    path = folder / "program.py"
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(path)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_users_program_is_well_typed(tmp_path: Path) -> None:
    """A user with a strict type checker could not use the library as documented."""
    done = check(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_users_mistakes_are_found(tmp_path: Path) -> None:
    """A mistake that the types could show would only show at run time."""
    done = check(WRONG, tmp_path)
    assert done.stdout.count("[arg-type]") == 1, done.stdout
    assert done.stdout.count("[call-overload]") == 1, done.stdout
