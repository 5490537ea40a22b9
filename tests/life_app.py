"""An application that uses everything between a sign-in and its end, for uvicorn to serve."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Response, Security, WebSocket
from fastapi.responses import StreamingResponse
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it

from revokebus import (
    AccessToken,
    ClientAuthentication,
    RefreshToken,
    RevokeBus,
    TokenPair,
    client_of,
    introspection_endpoint,
    require_access,
    require_refresh,
    revocation_endpoint,
)
from revokebus.errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = FastAPI()
bus = RevokeBus.attach(app)

CLIENTS = {"web": "web-secret", "tv": "tv:sec ret%"}


def is_client(name: str, secret: str) -> bool:
    return hmac.compare_digest(CLIENTS.get(name, "\0").encode(), secret.encode())


client = ClientAuthentication(is_client)
app.include_router(revocation_endpoint(client), prefix="/oauth")
app.include_router(introspection_endpoint(client), prefix="/oauth")

Access = Annotated[AccessToken, Depends(require_access())]


@app.post("/login/{subject}")
async def login(
    subject: str,
    response: Response,
    scope: str = "",
    client_id: str = "web",
    *,
    fresh: bool = False,
) -> TokenPair:
    pair = bus.issue(
        subject, scopes=scope.split(), claims={"client_id": client_id, "tenant": 7}, fresh=fresh
    )
    if "cookie" in bus.settings.token_sources:
        bus.set_cookies(response, pair)
    return pair


@app.post("/refresh")
async def refresh(
    request: Request, token: Annotated[RefreshToken, Depends(require_refresh())]
) -> TokenPair:
    return await bus.rotate(token, client=client_of(request))


@app.post("/logout")
async def logout(token: Access, response: Response) -> None:
    bus.clear_cookies(response)
    await bus.revoke_session(token.session_id)


@app.get("/me")
async def me(token: Access) -> str:
    return token.subject


@app.post("/change")
async def change(token: Access) -> str:
    return token.subject


@app.get("/read")
async def read(token: Annotated[AccessToken, Depends(require_access("read"))]) -> str:
    return token.subject


@app.get("/both")
async def both(
    token: Annotated[AccessToken, Security(require_access("read"), scopes=["write"])],
) -> str:
    return token.subject


@app.get("/maybe")
async def maybe(
    token: Annotated[AccessToken | None, Depends(require_access(optional=True))],
) -> str:
    return token.subject if token else "nobody"


@app.get("/fresh")
async def fresh(token: Annotated[AccessToken, Depends(require_access(fresh=True))]) -> str:
    return token.subject


@app.get("/recent")
async def recent(token: Annotated[AccessToken, Depends(require_access(max_age=1.5))]) -> str:
    return token.subject


@app.get("/link")
async def link(
    token: Annotated[AccessToken, Depends(require_access(sources=["header", "query"]))],
) -> str:
    return token.subject


@app.post("/sign-out-everywhere/{subject}")
async def sign_out_everywhere(subject: str) -> None:
    await bus.revoke_subject(subject)


@app.websocket("/ws")
async def chat(websocket: WebSocket, token: Access) -> None:
    await websocket.accept()
    async with bus.guard(token):
        async for text in websocket.iter_text():
            await websocket.send_text(f"{token.subject}: {text}")


@app.websocket("/ws-own-code")
async def own_code(
    websocket: WebSocket,
    token: Annotated[AccessToken, Depends(require_access(sources=["header", "query"]))],
) -> None:
    await websocket.accept()
    try:
        async with bus.guard(token):
            await websocket.send_text("open")
            await asyncio.Event().wait()
    except AuthenticationError as error:
        await websocket.close(4401, str(error))


@app.get("/events")
async def events(token: Access) -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        try:
            async with bus.guard(token):
                yield "data: open\n\n"
                await asyncio.Event().wait()
        except AuthenticationError as error:
            yield f"event: end\ndata: {error}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/poll")
async def poll(token: Access) -> str:
    async with bus.guard(token):
        await asyncio.Event().wait()
    return "never"
