"""A dependency that does nothing: what FastAPI itself takes for any guard."""

from typing import Annotated

from fastapi import Depends, FastAPI

app = FastAPI()


async def nothing() -> None:
    return None


@app.post("/login")
async def login() -> dict[str, str]:
    return {"access_token": "none"}


@app.get("/protected")
async def protected(_: Annotated[None, Depends(nothing)]) -> dict[str, str]:
    return {"subject": "alice"}
