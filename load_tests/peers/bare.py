"""No authentication at all."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/login")
async def login() -> dict[str, str]:
    return {"access_token": "none"}


@app.get("/protected")
async def protected() -> dict[str, str]:
    return {"subject": "alice"}
