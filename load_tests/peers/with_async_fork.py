"""async-fastapi-jwt-auth 0.6.6, with its denylist loader over Redis, by the async client."""

from typing import Annotated, Any

from async_fastapi_jwt_auth import AuthJWT
from async_fastapi_jwt_auth.auth_jwt import AuthJWTBearer
from async_fastapi_jwt_auth.exceptions import AuthJWTException
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.asyncio import Redis

from load_tests.peers.secret import REDIS_URL, SECRET

app = FastAPI()
auth_dep = AuthJWTBearer()
redis: Redis = Redis.from_url(REDIS_URL, decode_responses=True)


class Configuration(BaseModel):
    authjwt_secret_key: str = SECRET
    authjwt_algorithm: str = "HS256"
    authjwt_denylist_enabled: bool = True
    authjwt_denylist_token_checks: set[str] = {"access", "refresh"}


@AuthJWT.load_config
def configuration() -> Configuration:
    return Configuration()


@AuthJWT.token_in_denylist_loader
async def is_revoked(token: dict[str, Any]) -> bool:
    return bool(await redis.get(token["jti"]) == "true")


@app.exception_handler(AuthJWTException)
async def refuse(_: Request, error: AuthJWTException) -> JSONResponse:
    return JSONResponse(status_code=error.status_code, content={"detail": error.message})


@app.post("/login")
async def login(authorize: Annotated[AuthJWT, Depends(auth_dep)]) -> dict[str, str]:
    return {"access_token": await authorize.create_access_token(subject="alice")}


@app.get("/protected")
async def protected(authorize: Annotated[AuthJWT, Depends(auth_dep)]) -> dict[str, str]:
    await authorize.jwt_required()
    return {"subject": await authorize.get_jwt_subject()}
