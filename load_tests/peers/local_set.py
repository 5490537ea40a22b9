"""Written by hand: PyJWT in each request, and a set of revoked ids in the process."""

import time
import uuid
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from load_tests.peers.secret import LIFETIME, SECRET

app = FastAPI()
bearer = HTTPBearer()
revoked: set[str] = set()


async def current(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> dict[str, Any]:
    try:
        claims = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    if claims["jti"] in revoked:
        raise HTTPException(401)
    return claims


@app.post("/login")
async def login() -> dict[str, str]:
    now = int(time.time())
    claims = {"sub": "alice", "jti": str(uuid.uuid4()), "iat": now, "exp": now + LIFETIME}
    return {"access_token": jwt.encode(claims, SECRET, algorithm="HS256")}


@app.get("/protected")
async def protected(claims: Annotated[dict[str, Any], Depends(current)]) -> dict[str, str]:
    return {"subject": claims["sub"]}
