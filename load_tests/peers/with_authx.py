"""authx 1.7.1, with its blocklist callback over a set of tokens, as its documentation has it."""

from typing import Annotated, Any

from authx import AuthX, AuthXConfig, TokenPayload
from fastapi import Depends, FastAPI

from load_tests.peers.secret import SECRET

auth = AuthX(
    config=AuthXConfig(JWT_ALGORITHM="HS256", JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=["headers"])
)
app = FastAPI()
auth.handle_errors(app)
revoked: set[str] = set()


@auth.set_callback_token_blocklist
def is_revoked(token: str, **_: Any) -> bool:
    return token in revoked


required = auth.access_token_required


@app.post("/login")
async def login() -> dict[str, str]:
    return {"access_token": auth.create_access_token(uid="alice")}


@app.get("/protected")
async def protected(payload: Annotated[TokenPayload, Depends(required)]) -> dict[str, str]:
    return {"subject": payload.sub}
