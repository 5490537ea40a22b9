"""RevokeBus, as the README has it."""

from typing import Annotated

from fastapi import Depends, FastAPI

from load_tests.peers.secret import REDIS_URL, SECRET
from revokebus import AccessToken, RevokeBus, Settings, TokenPair, require_access

app = FastAPI()
bus = RevokeBus.attach(app, Settings(secret_key=SECRET, redis_url=REDIS_URL))


@app.post("/login")
async def login() -> TokenPair:
    return bus.issue("alice")


@app.get("/protected")
async def protected(token: Annotated[AccessToken, Depends(require_access())]) -> dict[str, str]:
    return {"subject": token.subject}
