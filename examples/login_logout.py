"""An API with login, refresh and logout: the routes that the other examples serve.

Every program of this folder is complete: put your own user check in place of `PASSWORDS`.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from revokebus import (
    AccessToken,
    RefreshToken,
    RevokeBus,
    Settings,
    TokenPair,
    require_access,
    require_refresh,
)

PASSWORDS = {"alice": "wonderland", "bob": "builder"}


class Credentials(BaseModel):
    """What a user signs in with."""

    username: str
    password: str


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; without `settings` they come from ``REVOKEBUS_*`` variables."""
    app = FastAPI(title="RevokeBus example")
    bus = RevokeBus.attach(app, settings)

    @app.post("/login")
    async def login(credentials: Credentials) -> TokenPair:
        expected = PASSWORDS.get(credentials.username, "")
        given = credentials.password.encode("utf-8", "surrogatepass")  # JSON can hold any
        if not expected or not hmac.compare_digest(expected.encode(), given):
            raise HTTPException(401, "Wrong username or password")
        return bus.issue(credentials.username)

    @app.post("/refresh")
    async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> TokenPair:
        return await bus.rotate(token)

    @app.delete("/access-revoke")
    async def revoke_access(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        await bus.revoke(token)
        return "Access token has been revoked"

    @app.delete("/refresh-revoke")
    async def revoke_refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> str:
        await bus.revoke(token)
        return "Refresh token has been revoked"

    @app.get("/protected")
    async def protected(token: Annotated[AccessToken, Depends(require_access())]) -> dict[str, str]:
        return {"user": token.subject}

    return app
