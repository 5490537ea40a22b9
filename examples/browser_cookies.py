"""A page that keeps its tokens in cookies, with CSRF protection.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=memory:// uvicorn examples.browser_cookies:app``,
then open http://localhost:8000. On plain http the browser keeps a cookie that is marked ``Secure``
for localhost only; elsewhere serve it over TLS.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from revokebus import (
    AccessToken,
    CookieSettings,
    RefreshToken,
    RevokeBus,
    Settings,
    require_access,
    require_refresh,
)

PASSWORDS = {"alice": "wonderland", "bob": "builder"}
notes: dict[str, str] = {}

app = FastAPI(title="Tokens in cookies")
bus = RevokeBus.attach(
    app,
    Settings(
        token_sources=["cookie"],
        # The refresh token travels with nothing but a refresh.
        cookies=CookieSettings(samesite="strict", refresh_path="/refresh"),
    ),
)
Access = Annotated[AccessToken, Depends(require_access())]


class Credentials(BaseModel):
    """What a user signs in with."""

    username: str
    password: str


class Note(BaseModel):
    """What a user may change."""

    text: str


@app.post("/login")
async def login(credentials: Credentials, response: Response) -> None:
    expected = PASSWORDS.get(credentials.username, "")
    given = credentials.password.encode("utf-8", "surrogatepass")
    if not expected or not hmac.compare_digest(expected.encode(), given):
        raise HTTPException(401, "Wrong username or password")
    bus.set_cookies(response, bus.issue(credentials.username))


@app.post("/refresh")
async def refresh(
    token: Annotated[RefreshToken, Depends(require_refresh())], response: Response
) -> None:
    bus.set_cookies(response, await bus.rotate(token))


@app.post("/logout")
async def logout(token: Access, response: Response) -> None:
    await bus.revoke_session(token.session_id)
    bus.clear_cookies(response)


@app.get("/note")
async def read_note(token: Access) -> Note:
    return Note(text=notes.get(token.subject, ""))


@app.put("/note")
async def write_note(note: Note, token: Access) -> Note:
    notes[token.subject] = note.text
    return note


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tokens in cookies</title>
<script src="/page.js" defer></script>
<body>
<form id="login">
  <input name="username" value="alice" autocomplete="username">
  <input name="password" type="password" autocomplete="current-password">
  <button>Sign in</button>
</form>
<form id="note"><input name="text"><button>Save</button></form>
<button id="logout">Sign out</button>
<p id="said"></p>
"""

SCRIPT = """
// The cookie that scripts can read goes back in a header; other sites' scripts cannot read it.
const csrf = () => (document.cookie.match(/(?:^|; )__Host-csrf_token=([^;]*)/) || [])[1] || "";

async function call(method, path, body) {
  const send = () => fetch(path, {
    method,
    headers: {"Content-Type": "application/json", "X-CSRF-Token": csrf()},
    body: body && JSON.stringify(body),
  });
  let answer = await send();
  if (answer.status === 401 && path !== "/login" && csrf()) {
    const headers = {"X-CSRF-Token": csrf()};
    if ((await fetch("/refresh", {method: "POST", headers})).ok) answer = await send();
  }
  const said = document.getElementById("said");
  const text = await answer.text();
  said.textContent = `${method} ${path}: ${answer.status} ${text}`;
  return answer.ok && text ? JSON.parse(text) : null;
}

const values = (form) => Object.fromEntries(new FormData(form));
for (const [id, method] of [["login", "POST"], ["note", "PUT"]]) {
  const form = document.getElementById(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    call(method, `/${id}`, values(form));
  });
}
document.getElementById("logout").addEventListener("click", () => call("POST", "/logout"));
"""


@app.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    policy = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'"
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": policy})


@app.get("/page.js")
async def script() -> Response:
    return Response(SCRIPT, media_type="text/javascript")
