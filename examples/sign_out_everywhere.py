"""An administrator signs out a user, a tenant or everybody, after a look at whom it will hit.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=redis://...
uvicorn examples.sign_out_everywhere:app``
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI

from revokebus import AccessToken, Receipt, RevokeBus, Settings, TokenPair, require_access

app = FastAPI(title="Sign out everywhere")
bus = RevokeBus.attach(app, Settings(revocable_claims=["tenant"]))


@app.post("/login/{tenant}/{name}")
async def login(tenant: int, name: str) -> TokenPair:
    """Sign in; check a password, and whether the user is an administrator, here."""
    scopes = ["admin"] if name == "root" else []
    return bus.issue(name, scopes=scopes, claims={"tenant": tenant}, fresh=True)


@app.get("/me")
async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    return token.subject


# Such power is for who has just signed in, not for a token that lies around.
admin = APIRouter(prefix="/admin", dependencies=[Depends(require_access("admin", max_age=300))])


@admin.post("/users/{name}/sign-out")
async def sign_out_user(name: str, *, dry_run: bool = False) -> Receipt:
    return await bus.revoke_subject(name, dry_run=dry_run)


@admin.post("/tenants/{tenant}/sign-out")
async def sign_out_tenant(tenant: int, *, dry_run: bool = False) -> Receipt:
    return await bus.revoke_claim("tenant", tenant, dry_run=dry_run)


@admin.post("/sign-out")
async def sign_out_everybody(*, dry_run: bool = False) -> Receipt:
    return await bus.revoke_all(dry_run=dry_run)


app.include_router(admin)
