"""A chat over WebSockets: who signs out, on any instance, is cut off within milliseconds.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=redis://... uvicorn examples.chat:app``, in the
checkout, with ``pip install websockets``. What is said is heard at the same instance only. Open
``/chat?access_token=...``; a browser cannot send a header with a WebSocket, and a query parameter
is taken here because the guard of this one route asks for it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from revokebus import AccessToken, RevokeBus, TokenPair, require_access

app = FastAPI(title="Chat")
bus = RevokeBus.attach(app)
here: set[WebSocket] = set()


@app.post("/login/{name}")
async def login(name: str) -> TokenPair:
    """Sign in; check a password here."""
    return bus.issue(name)


@app.post("/logout")
async def logout(token: Annotated[AccessToken, Depends(require_access())]) -> None:
    """Sign out: refuse the tokens of this session, and end what is open with them."""
    await bus.revoke_session(token.session_id)


@app.websocket("/chat")
async def chat(
    websocket: WebSocket,
    token: Annotated[AccessToken, Depends(require_access(sources=["header", "query"]))],
) -> None:
    await websocket.accept()
    here.add(websocket)
    try:
        # The body ends when the token is revoked or expires. What leaves the route then closes
        # the WebSocket with code 1008 and the reason.
        async with bus.guard(token):
            async for text in websocket.iter_text():
                for each in list(here):
                    await each.send_text(f"{token.subject}: {text}")
    finally:
        here.discard(websocket)
