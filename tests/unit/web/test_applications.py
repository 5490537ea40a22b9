"""What applications that exist have: two kinds of credentials, a page in one language, a form."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.security import OAuth2PasswordRequestForm  # noqa: TC002 - FastAPI reads it
from fastapi.testclient import TestClient
from pydantic import BaseModel

from revokebus import (
    AccessToken,
    IssuedAccess,
    RefreshToken,
    RevokeBus,
    RevokeBusError,
    require_access,
    require_refresh,
    require_same_origin,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support import MakeSettings

URL = "https://app.example"
KEYS = {"Bearer sk-123": "robot"}


class Refresh(BaseModel):
    """What a client of a JSON API sends."""

    refresh_token: str


async def caller(
    token: Annotated[AccessToken | None, Depends(require_access(optional=True, only_jwt=True))],
    authorization: Annotated[str, Header()] = "",
) -> str:
    """Return who calls, by a token or by a key."""
    return token.subject if token else KEYS.get(authorization, "nobody")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# The refresh token in a cookie, the access token in the header


def spa(settings: Any) -> FastAPI:
    app = FastAPI()
    bus = RevokeBus.attach(app, settings)

    @app.post("/login")
    async def login(response: Response) -> IssuedAccess:
        pair = bus.issue("alice")
        bus.set_cookies(response, pair)
        return pair.access

    @app.post("/refresh")
    async def refresh(
        token: Annotated[RefreshToken, Depends(require_refresh())], response: Response
    ) -> IssuedAccess:
        pair = await bus.rotate(token)
        bus.set_cookies(response, pair)
        return pair.access

    @app.get("/me")
    async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    return app


def test_a_page_keeps_the_access_token_and_the_browser_the_other(
    make_settings: MakeSettings,
) -> None:
    """Most pages in one document work so; each refresh was 403, and nothing said why."""
    settings = make_settings(refresh_sources="cookie", rotation_grace=0)
    with TestClient(spa(settings), base_url=URL) as client:
        answer = client.post("/login")
        assert set(answer.json()) == {"access_token", "token_type", "expires_in", "session_id"}
        names = {each.partition("=")[0] for each in answer.headers.get_list("set-cookie")}
        assert names == {"__Host-refresh_token", "__Host-csrf_token"}
        access = answer.json()["access_token"]
        assert client.get("/me").status_code == 401
        assert client.get("/me", headers=bearer(access)).json() == "alice"
        assert client.post("/refresh").status_code == 403
        csrf = {"X-CSRF-Token": client.cookies["__Host-csrf_token"]}
        second = client.post("/refresh", headers=csrf).json()["access_token"]
        assert second != access
        assert client.get("/me", headers=bearer(second)).json() == "alice"
        assert client.post("/refresh", headers=csrf).status_code == 200


def test_the_quick_way_takes_no_refresh_token_from_the_header(make_settings: MakeSettings) -> None:
    """A refresh token that was used once would be taken from where it may not come."""
    settings = make_settings(refresh_sources="cookie", rotation_grace=30)
    app = spa(settings)
    bus: RevokeBus = app.state.revokebus
    with TestClient(app, base_url=URL) as client:
        refresh = bus.issue("alice").refresh_token
        for _ in range(3):
            assert client.post("/refresh", headers=bearer(refresh)).status_code == 401
            assert client.portal is not None
            client.portal.call(bus.authenticate, refresh, RefreshToken)


def test_cookies_without_a_source_are_refused_at_the_first_try(make_settings: MakeSettings) -> None:
    """The mistake would show weeks later, as a 403 at each refresh."""
    with (
        TestClient(spa(make_settings()), base_url=URL) as client,
        pytest.raises(ValueError, match="refresh_sources"),
    ):
        client.post("/login")


def test_a_path_that_was_narrowed_later_heals_itself(make_settings: MakeSettings) -> None:
    """Users with the cookie from before would get 400 for a month."""
    names = {"refresh_name": "refresh_token", "csrf_name": "csrf_token"}
    before = make_settings(refresh_sources="cookie", cookies=names)
    after = make_settings(refresh_sources="cookie", cookies={**names, "refresh_path": "/refresh"})
    with TestClient(spa(before), base_url=URL) as client:
        client.post("/login")
        jar = client.cookies
    with TestClient(spa(after), base_url=URL, cookies=jar) as client:
        for _ in range(3):
            csrf = {"X-CSRF-Token": client.cookies["csrf_token"]}
            assert client.post("/refresh", headers=csrf).status_code == 200
        paths = [each.path for each in client.cookies.jar if each.name == "refresh_token"]
        assert paths == ["/refresh"]


@pytest.mark.parametrize(
    ("cookies", "names"),
    [
        ({}, ["__Host-access_token", "__Host-refresh_token", "__Host-csrf_token"]),
        (
            {"refresh_path": "/refresh"},
            ["__Host-access_token", "__Secure-refresh_token", "__Host-csrf_token"],
        ),
        (
            {"domain": "example.com"},
            ["__Secure-access_token", "__Secure-refresh_token", "__Secure-csrf_token"],
        ),
        ({"secure": False}, ["access_token", "refresh_token", "csrf_token"]),
        ({"access_name": "mine"}, ["mine", "__Host-refresh_token", "__Host-csrf_token"]),
    ],
)
def test_no_other_host_can_plant_a_cookie(
    make_settings: MakeSettings, cookies: dict[str, Any], names: list[str]
) -> None:
    """A page of a sibling domain could lock every user out."""
    found = make_settings(cookies=cookies).cookies
    assert [found.access_name, found.refresh_name, found.csrf_name] == names


def test_a_cookie_that_browsers_drop_is_said(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Users with many roles could not sign in, and nothing would say why."""
    bus = RevokeBus(make_settings(token_sources="cookie"))
    bus.set_cookies(Response(), bus.issue("alice"))
    assert "browsers drop" not in caplog.text
    pair = bus.issue("alice", claims={"roles": ["x" * 30] * 100})
    bus.set_cookies(Response(), pair)
    said = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len([each for each in said if "browsers drop" in each.message]) == 2
    assert pair.access_token not in caplog.text


# A refresh token in the body


def test_a_refresh_token_in_the_body(make_settings: MakeSettings) -> None:
    """A client that sends JSON could not refresh."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())

    @app.post("/refresh")
    async def refresh(body: Refresh) -> str:
        token = await bus.authenticate(body.refresh_token, RefreshToken)
        return (await bus.rotate(token)).access_token

    with TestClient(app) as client:
        pair = bus.issue("alice")
        assert (
            client.post("/refresh", json={"refresh_token": pair.refresh_token}).status_code == 200
        )
        again = client.post("/refresh", json={"refresh_token": pair.refresh_token})
        assert (again.status_code, "www-authenticate" in again.headers) == (401, True)
        assert client.post("/refresh", json={"refresh_token": "x"}).status_code == 401


# A page of another site


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": URL}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": URL}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://www.example"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://other.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),  # a bookmark
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://app.example.evil.example"}, 403),
        ({"Origin": "https://["}, 403),
    ],
)
def test_another_site_cannot_sign_its_visitor_in(
    make_settings: MakeSettings, headers: dict[str, str], status: int
) -> None:
    """A visitor would write private things into an account of somebody else's."""
    app = FastAPI()
    RevokeBus.attach(app, make_settings())
    guard = require_same_origin(allowed_origins=["https://www.example/"])

    @app.post("/login", dependencies=[Depends(guard)])
    async def login() -> None:
        return None

    with TestClient(app, base_url=URL) as client:
        assert client.post("/login", headers=headers).status_code == status


# Another kind of credentials in the same header


def test_an_api_key_goes_to_whoever_knows_it(make_settings: MakeSettings) -> None:
    """An application with API keys could not use the guard beside them."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())

    @app.get("/me")
    async def me(name: Annotated[str, Depends(caller)]) -> str:
        return name

    with TestClient(app) as client:
        token = bus.issue("alice").access_token

        def ask(text: str | None) -> Any:
            return client.get("/me", headers={"Authorization": text} if text else {})

        assert ask("Bearer sk-123").json() == "robot"
        assert ask("Bearer sk-999").json() == "nobody"
        assert ask(None).json() == "nobody"
        assert ask(f"Bearer {token}").json() == "alice"
        assert ask(f"Bearer {token[:-3]}xyz").status_code == 401  # a bad JWT is no API key
        assert client.portal is not None
        client.portal.call(bus.revoke, token)
        assert ask(f"Bearer {token}").status_code == 401


# A middleware


def test_a_middleware_answers_as_the_guard_does(make_settings: MakeSettings) -> None:
    """Clients would get a 500 from one part of the application, and a 401 from another."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())

    @app.middleware("http")
    async def signed_in(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path.startswith("/private"):
            try:
                request.state.token = await bus.token_of(request)
            except RevokeBusError as error:
                return bus.refusal(error)
        return await call_next(request)

    @app.get("/private")
    async def private(request: Request) -> str:
        return str(request.state.token.subject)

    @app.get("/guarded")
    async def guarded(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    with TestClient(app) as client:
        pair = bus.issue("alice")
        for headers in (
            {},
            bearer("x"),
            bearer(pair.refresh_token),
            bearer(pair.access_token),
            {"Authorization": "Bearer"},
        ):
            one, other = (client.get(path, headers=headers) for path in ("/private", "/guarded"))
            assert (one.status_code, one.json()) == (other.status_code, other.json())
            challenge = "www-authenticate"
            assert one.headers.get(challenge) == other.headers.get(challenge)
    with pytest.raises(ZeroDivisionError):
        bus.refusal(ZeroDivisionError())  # type: ignore[arg-type]  # no error of ours


# An access token alone


def test_an_access_token_alone(make_settings: MakeSettings) -> None:
    """A program that signs in for one call would get a refresh token that lives for a month."""
    app = spa(make_settings())
    bus: RevokeBus = app.state.revokebus
    with TestClient(app) as client:
        issued = bus.issue_access("robot", scopes=["jobs"], claims={"team": 7}, access_ttl=10)
        assert issued.access_token not in repr(issued)
        assert issued.expires_in == 10
        assert client.get("/me", headers=bearer(issued.access_token)).json() == "robot"
        assert client.portal is not None
        client.portal.call(bus.revoke_session, issued.session_id)
        assert client.get("/me", headers=bearer(issued.access_token)).status_code == 401


# The Authorize button


def signing_in_by_form(settings: Any, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    bus = RevokeBus.attach(app, settings)

    @app.post("/auth/login")
    async def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Any:
        return bus.issue(form.username, scopes=form.scopes)

    @app.get("/items")
    async def items(token: Annotated[AccessToken, Depends(require_access("items:read"))]) -> str:
        return token.subject

    return app


def test_the_authorize_button_signs_in(make_settings: MakeSettings) -> None:
    """Who tries the application in /docs would have to copy tokens by hand."""
    with TestClient(signing_in_by_form(make_settings())) as client:
        document = client.get("/openapi.json").json()
        scheme = document["components"]["securitySchemes"]["AccessToken"]
        flow = scheme["flows"]["password"]
        assert flow == {"tokenUrl": "auth/login", "scopes": {"items:read": ""}}
        assert document["paths"]["/items"]["get"]["security"] == [{"AccessToken": ["items:read"]}]
        form = {"username": "alice", "password": "x", "scope": "items:read"}
        told = client.post(f"/{flow['tokenUrl']}", data=form).json()
        assert told["token_type"] == "bearer"
        assert client.get("/items", headers=bearer(told["access_token"])).json() == "alice"


def test_the_button_finds_the_sign_in_below_a_path(make_settings: MakeSettings) -> None:
    """Where all is below /api it would post to /api/api/auth/login."""
    app = signing_in_by_form(make_settings(), openapi_url="/auth/openapi.json")
    with TestClient(app) as client:
        document = client.get("/auth/openapi.json").json()
        flow = document["components"]["securitySchemes"]["AccessToken"]["flows"]["password"]
        assert flow["tokenUrl"] == "login"


@pytest.mark.parametrize("changes", [{"token_sources": "cookie"}, {"header_name": "X-Token"}])
def test_where_the_button_could_not_it_does_not_say_so(
    make_settings: MakeSettings, changes: dict[str, Any]
) -> None:
    """It would sign in and then send the token where nobody looks for it."""
    with TestClient(signing_in_by_form(make_settings(**changes))) as client:
        schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
        assert schemes["AccessToken"]["type"] == "apiKey"
