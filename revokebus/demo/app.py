"""What each instance of the demonstration serves, its admin page included."""

from __future__ import annotations

import hmac
import os
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from revokebus import AccessToken, RevokeBus, TokenPair, admin_page, require_access
from revokebus.demo.app_user import KEY_VARIABLE, PASSWORD, USER

KEY = os.environ.get(KEY_VARIABLE, "")

app = FastAPI(title="RevokeBus demonstration")
bus = RevokeBus.attach(app)


class Credentials(BaseModel):
    """What the user signs in with."""

    username: str
    password: str


@app.post("/login")
async def login(credentials: Credentials, user_agent: Annotated[str, Header()] = "") -> TokenPair:
    """Sign in."""
    given = credentials.password.encode("utf-8", "surrogatepass")  # JSON can hold any
    if credentials.username != USER or not hmac.compare_digest(PASSWORD.encode(), given):
        raise HTTPException(401, "Wrong username or password")
    return await bus.sign_in(USER, device=user_agent)


@app.get("/protected")
async def protected(token: Annotated[AccessToken, Depends(require_access())]) -> dict[str, str]:
    """Answer whoever has a token that works."""
    return {"user": token.subject}


@app.delete("/access-revoke")
async def revoke_access(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    """Revoke the token that the request comes with."""
    await bus.revoke(token)
    return "Access token has been revoked"


@app.get("/operator")
async def sign_in_as_operator(key: str) -> RedirectResponse:
    """Let in whoever was given the link that the demonstration prints."""
    if not KEY or not hmac.compare_digest(KEY.encode(), key.encode()):
        raise HTTPException(401, "Not the key that the demonstration has printed")
    answer = RedirectResponse("/revokebus/", status_code=303)
    bus.set_cookies(answer, bus.issue("operator", scopes=["operator"]))
    return answer


app.include_router(admin_page(require_access("operator", sources=["cookie"])), prefix="/revokebus")
