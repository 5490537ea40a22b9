"""Written by hand: PyJWT in each request, and one GET from Redis."""

import time
import uuid
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis

from load_tests.peers.secret import LIFETIME, REDIS_URL, SECRET

app = FastAPI()
bearer = HTTPBearer()
redis: Redis = Redis.from_url(REDIS_URL, decode_responses=True)


async def current(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> dict[str, Any]:
    try:
        claims = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    if await redis.get(claims["jti"]) == "true":
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
