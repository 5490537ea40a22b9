"""The application of ``locustfile.py``: sign in, read, refresh, sign out, sign out everywhere.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=redis://... uvicorn load_tests.application:app``
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI

from revokebus import (
    AccessToken,
    RefreshToken,
    RevokeBus,
    TokenPair,
    require_access,
    require_refresh,
)

app = FastAPI()
bus = RevokeBus.attach(app)

Access = Annotated[AccessToken, Depends(require_access())]


@app.post("/login/{name}")
async def login(name: str) -> TokenPair:
    """Sign in; who it is, is not checked here."""
    return bus.issue(name)


@app.get("/profile")
async def profile(token: Access) -> dict[str, str]:
    """Say who it is."""
    return {"user": token.subject}


@app.post("/refresh")
async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> TokenPair:
    """Exchange a refresh token."""
    return await bus.rotate(token)


@app.post("/logout")
async def logout(token: Access) -> None:
    """End the session."""
    await bus.revoke_session(token.session_id)


@app.post("/logout-everywhere")
async def logout_everywhere(token: Access) -> None:
    """End every session of the user."""
    await bus.revoke_subject(token.subject)
