"""The same desk in a house with several: the ids of revoked tokens are keys in Redis."""

from datetime import timedelta

import redis
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from revokebus.compat.fastapi_jwt_auth import AuthJWT
from revokebus.compat.fastapi_jwt_auth.exceptions import AuthJWTException

app = FastAPI()
READERS = {"ada": "lovelace"}
connection = redis.Redis(host="localhost", port=6379, db=0, decode_responses=True)


class Card(BaseModel):
    """What a reader shows at the desk."""

    reader: str
    word: str


class Options(BaseModel):
    """The options of the library for tokens; revoked ids are kept as long as the tokens live."""

    authjwt_secret_key: str = "secret"
    authjwt_denylist_enabled: bool = True
    authjwt_denylist_token_checks: set[str] = {"access", "refresh"}
    access_expires: timedelta = timedelta(minutes=15)
    refresh_expires: timedelta = timedelta(days=30)


desk = Options()


@AuthJWT.load_config
def options() -> Options:
    return desk


@AuthJWT.token_in_denylist_loader
def is_returned(claims: dict[str, str]) -> bool:
    return connection.get(claims["jti"]) == "true"


@app.exception_handler(AuthJWTException)
def refuse(_: Request, error: AuthJWTException) -> JSONResponse:
    return JSONResponse({"detail": error.message}, error.status_code)


@app.post("/cards")
def hand_out(card: Card, auth: AuthJWT = Depends()) -> dict[str, str]:
    if READERS.get(card.reader) != card.word:
        raise HTTPException(401, "No such reader")
    return {
        "access_token": auth.create_access_token(subject=card.reader),
        "refresh_token": auth.create_refresh_token(subject=card.reader),
    }


@app.post("/cards/renewal")
def renew(auth: AuthJWT = Depends()) -> dict[str, str]:
    auth.jwt_refresh_token_required()
    return {"access_token": auth.create_access_token(subject=auth.get_jwt_subject() or "")}


@app.get("/loans")
def loans(auth: AuthJWT = Depends()) -> dict[str, object]:
    auth.jwt_required()
    return {"reader": auth.get_jwt_subject()}


@app.delete("/cards/access")
def return_access(auth: AuthJWT = Depends()) -> dict[str, str]:
    auth.jwt_required()
    connection.setex((auth.get_raw_jwt() or {})["jti"], desk.access_expires, "true")
    return {"detail": "The access token counts no more"}


@app.delete("/cards/refresh")
def return_refresh(auth: AuthJWT = Depends()) -> dict[str, str]:
    auth.jwt_refresh_token_required()
    connection.setex((auth.get_raw_jwt() or {})["jti"], desk.refresh_expires, "true")
    return {"detail": "The refresh token counts no more"}
