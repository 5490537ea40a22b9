"""An API whose users sign in elsewhere: at Auth0, Keycloak, Entra or any OpenID provider.

It has no key of its own. It fetches the issuer's public keys, and can still take a token back. ::

    REVOKEBUS_JWKS_URL=https://tenant.eu.auth0.com/.well-known/jwks.json
    REVOKEBUS_ISSUER=https://tenant.eu.auth0.com/
    REVOKEBUS_AUDIENCE=https://api.example
    REVOKEBUS_REDIS_URL=redis://...
    uvicorn examples.resource_server:app

To try it without one, ``python -m examples.stand_in_issuer`` is an issuer on this machine, and
prints these variables and a token.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI

from revokebus import AccessToken, Receipt, RevokeBus, require_access

app = FastAPI(title="Resource server")
bus = RevokeBus.attach(app)


@app.get("/items")
async def items(token: Annotated[AccessToken, Depends(require_access("read:items"))]) -> list[str]:
    return [f"an item of {token.subject}"]


@app.post("/users/{subject}/sign-out")
async def sign_out(
    subject: str, _: Annotated[AccessToken, Depends(require_access("admin"))]
) -> Receipt:
    """Refuse every token that the issuer has given out for a user until now."""
    return await bus.revoke_subject(subject)
