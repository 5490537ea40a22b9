"""What each instance of the demonstration serves."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from revokebus import AccessToken, RevokeBus, TokenPair, require_access
from revokebus.demo.app_user import PASSWORD, USER

app = FastAPI(title="RevokeBus demonstration")
bus = RevokeBus.attach(app)


class Credentials(BaseModel):
    """What the user signs in with."""

    username: str
    password: str


@app.post("/login")
async def login(credentials: Credentials) -> TokenPair:
    """Sign in."""
    given = credentials.password.encode("utf-8", "surrogatepass")  # JSON can hold any
    if credentials.username != USER or not hmac.compare_digest(PASSWORD.encode(), given):
        raise HTTPException(401, "Wrong username or password")
    return bus.issue(USER)


@app.get("/protected")
async def protected(token: Annotated[AccessToken, Depends(require_access())]) -> dict[str, str]:
    """Answer whoever has a token that works."""
    return {"user": token.subject}


@app.delete("/access-revoke")
async def revoke_access(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    """Revoke the token that the request comes with."""
    await bus.revoke(token)
    return "Access token has been revoked"
