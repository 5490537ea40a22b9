"""The guards and `attach`, in one process on ``memory://``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio.from_thread
import jwt
import pytest
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Security,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from revokebus import (
    AccessToken,
    BusStatus,
    CookieSettings,
    RefreshToken,
    RevokeBus,
    TokenPair,
    require_access,
    require_logout,
    require_refresh,
    require_same_origin,
)
from revokebus.errors import (
    ConfigurationError,
    InvalidTokenError,
    NotDurableError,
    UnavailableError,
)
from tests.support import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from tests.support import MakeSettings


def add_routes(app: FastAPI) -> None:
    @app.get("/me")
    async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    @app.get("/items")
    def items(token: Annotated[AccessToken, Depends(require_access("items:read", "x"))]) -> str:
        return token.subject  # a sync route, run in a thread

    @app.post("/refresh")
    async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> TokenPair:
        bus: RevokeBus = app.state.revokebus
        return await bus.rotate(token)


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    app = FastAPI()
    RevokeBus.attach(app, make_settings())
    add_routes(app)
    return app


@pytest.fixture
def bus(app: FastAPI) -> RevokeBus:
    bus: RevokeBus = app.state.revokebus
    return bus


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_good_token_opens_the_route(client: TestClient, bus: RevokeBus) -> None:
    """Nobody could use the application."""
    answer = client.get("/me", headers=bearer(bus.issue("alice").access_token))
    assert (answer.status_code, answer.json()) == (200, "alice")


def test_no_credentials_get_a_bare_challenge(client: TestClient) -> None:
    """A browser could not tell `sign in` from `your token is bad` (RFC 6750 §3.1)."""
    answer = client.get("/me")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_policy_that_does_not_exist_is_refused(
    bus: RevokeBus, subtests: pytest.Subtests
) -> None:
    """A slip of the pen would accept revoked tokens while Redis is away."""
    misspelt: Any = "Reject"
    token = bus.issue("alice").access_token
    verified = await bus.verify(token)

    async def ticks() -> AsyncIterator[int]:
        yield 1

    makers: list[Callable[[], object]] = [
        lambda: require_access(on_stale=misspelt),
        lambda: require_access(optional=True, on_stale=misspelt),
        lambda: require_refresh(on_stale=misspelt),
        lambda: bus.guard(verified, on_stale=misspelt),
        lambda: bus.guarded(verified, ticks(), on_stale=misspelt),
    ]
    for number, make in enumerate(makers):
        with (
            subtests.test(str(number)),
            pytest.raises(ValueError, match="reject, ask_redis, accept"),
        ):
            make()
    with pytest.raises(ValueError, match="reject, ask_redis, accept"):
        await bus.authenticate(token, AccessToken, on_stale=misspelt)


def bad_tokens(bus: RevokeBus) -> dict[str, str]:
    pair = bus.issue("alice")
    good = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"])
    return {
        "malformed": "nonsense",
        "empty parts": "..",
        "wrongly signed": jwt.encode(good, SECRET[::-1]),
        "expired": jwt.encode({**good, "exp": 1000}, SECRET),
        "without jti": jwt.encode({k: v for k, v in good.items() if k != "jti"}, SECRET),
        "numeric jti": jwt.encode({**good, "jti": 5}, SECRET),
        "of the wrong type": pair.refresh_token,
        "unsigned": jwt.encode(good, "", algorithm="none"),
        "not ascii": "\xe9.\xe9.\xe9",
        "huge": "a" * 60_000,
    }


def test_every_bad_token_gets_401_with_a_challenge(client: TestClient, bus: RevokeBus) -> None:
    """A bad token would end in a 422 or a 500, and the client would not sign in again."""
    for name, token in bad_tokens(bus).items():
        answer = client.get("/me", headers={b"Authorization": f"Bearer {token}".encode("latin-1")})
        assert answer.status_code == 401, name
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"'), name


def test_a_revoked_token_is_told_so(client: TestClient, bus: RevokeBus) -> None:
    """A client could not tell why it was signed out."""
    pair = bus.issue("alice")
    assert client.portal is not None
    client.portal.call(bus.revoke, pair.access_token)
    answer = client.get("/me", headers=bearer(pair.access_token))
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Token has been revoked"}
    assert "Token has been revoked" in answer.headers["WWW-Authenticate"]


def test_a_missing_scope_is_403(client: TestClient, bus: RevokeBus) -> None:
    """A user would do what he is not allowed to, or be told to sign in again."""
    some, all_ = bus.issue("alice", scopes=["x"]), bus.issue("alice", scopes=["x", "items:read"])
    answer = client.get("/items", headers=bearer(some.access_token))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert client.get("/items", headers=bearer(all_.access_token)).status_code == 200


def test_a_replay_in_the_route_body_is_401(client: TestClient, bus: RevokeBus) -> None:
    """A replayed refresh token would end in a 500."""
    pair = bus.issue("alice")
    assert client.post("/refresh", headers=bearer(pair.refresh_token)).status_code == 200
    answer = client.post("/refresh", headers=bearer(pair.refresh_token))
    assert answer.status_code == 401
    assert "used before" in answer.json()["detail"]


def test_the_guards_stand_in_openapi(client: TestClient) -> None:
    """The docs page would have no Authorize button."""
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["AccessToken"]["scheme"] == "bearer"
    assert schema["paths"]["/me"]["get"]["security"] == [{"AccessToken": []}]
    assert schema["paths"]["/refresh"]["post"]["security"] == [{"RefreshToken": []}]


def test_without_a_lifespan_the_answer_is_503(app: FastAPI, bus: RevokeBus) -> None:
    """A test or a server without lifespan support would serve unchecked tokens."""
    answer = TestClient(app).get("/me", headers=bearer(bus.issue("alice").access_token))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["detail"] == "The service is starting or ending"


def test_the_applications_own_lifespan_runs_inside(make_settings: MakeSettings) -> None:
    """Attaching would disable the application's own start-up, or come after it."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        bus: RevokeBus = app.state.revokebus
        seen.append(bus.status().state)
        yield {"greeting": "hello"}
        seen.append(bus.status().state)

    app = FastAPI(lifespan=lifespan)
    bus = RevokeBus.attach(app, make_settings())

    @app.get("/state")
    async def state(connection: HTTPConnection) -> str:
        return str(connection.state.greeting)

    with TestClient(app) as client:
        assert bus.status().state == "fresh"
        assert client.get("/state").json() == "hello"
    with TestClient(app):  # a second time: the bus starts again
        assert bus.status().state == "fresh"
    assert seen == ["fresh"] * 4
    assert bus.status().state == "closed"


def test_a_mounted_application_can_be_covered(app: FastAPI, bus: RevokeBus) -> None:
    """The routes of a mounted application could not be guarded, or would answer 500."""
    inner = FastAPI()
    bus.cover(inner)
    add_routes(inner)
    app.mount("/inner", inner)
    with TestClient(app) as client:
        pair = bus.issue("alice")
        assert client.get("/inner/me", headers=bearer(pair.access_token)).status_code == 200
        assert client.get("/inner/me").status_code == 401
        header = bearer(pair.refresh_token)
        assert client.post("/inner/refresh", headers=header).status_code == 200
        assert client.post("/inner/refresh", headers=header).status_code == 401


def test_a_guard_without_a_bus_says_what_is_missing(app: FastAPI) -> None:
    """A forgotten attach would leave routes open, or end in a 500 that nobody can explain."""
    inner, alone = FastAPI(), FastAPI()
    add_routes(inner)
    add_routes(alone)
    app.mount("/inner", inner)
    with TestClient(app) as client, pytest.raises(ConfigurationError, match=r"bus\.cover"):
        client.get("/inner/me")
    with TestClient(alone) as client, pytest.raises(ConfigurationError, match="attach"):
        client.get("/me")


def test_two_applications_in_one_process_do_not_meet(make_settings: MakeSettings) -> None:
    """A token revoked in one application would be refused in another."""
    apps = [FastAPI(), FastAPI()]
    buses = [RevokeBus.attach(app, make_settings()) for app in apps]
    for app in apps:
        add_routes(app)
    pair = buses[0].issue("alice")
    with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        assert first.portal is not None
        first.portal.call(buses[0].revoke, pair.access_token)
        assert first.get("/me", headers=bearer(pair.access_token)).status_code == 401
        assert second.get("/me", headers=bearer(pair.access_token)).status_code == 200


def test_attaching_twice_is_refused(app: FastAPI, make_settings: MakeSettings) -> None:
    """Half the routes would be guarded by a bus that never starts."""
    with pytest.raises(ConfigurationError, match="already"):
        RevokeBus.attach(app, make_settings())


def test_attaching_too_late_is_refused(make_settings: MakeSettings) -> None:
    """Errors that leave a route would end in a 500, because the handlers are in place by then."""
    app = FastAPI()
    TestClient(app).get("/")
    with pytest.raises(ConfigurationError, match="too late"):
        RevokeBus.attach(app, make_settings())


@pytest.mark.parametrize(
    "guard", [require_access, require_refresh, require_logout, require_same_origin]
)
def test_a_guard_without_its_parentheses_is_refused(guard: Callable[[], object]) -> None:
    """FastAPI would call the function, drop the guard that it returns, and let everybody in."""
    with pytest.raises(TypeError, match="inner parentheses"):
        FastAPI().get("/x", dependencies=[Depends(guard)])(lambda: None)


def test_a_token_cannot_come_out_of_the_request() -> None:
    """A route that forgets its guard would take whatever token the client writes."""
    app = FastAPI()

    async def forgotten(token: AccessToken) -> None: ...

    async def empty(token: Annotated[AccessToken, Depends()]) -> None: ...

    with pytest.raises(TypeError, match="take it from a guard"):
        app.get("/x")(forgotten)
    with pytest.raises(Exception, match="mappingproxy"):
        app.get("/x")(empty)


def test_scopes_of_security_are_demanded(app: FastAPI, bus: RevokeBus) -> None:
    """A scope that the documentation page shows would not be asked for."""

    @app.get("/admin")
    async def admin(
        token: Annotated[AccessToken, Security(require_access("x"), scopes=["admin"])],
    ) -> str:
        return token.subject

    with TestClient(app) as client:
        for scopes, status in ((["x"], 403), (["admin"], 403), (["x", "admin"], 200)):
            header = bearer(bus.issue("alice", scopes=scopes).access_token)
            assert client.get("/admin", headers=header).status_code == status


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\r\nX: y", "\u0447", ["a"]])
def test_a_scope_that_cannot_be_is_refused(scope: str) -> None:
    """A route could never be entered, or would break its own challenge (RFC 6749 §3.3)."""
    with pytest.raises(ValueError, match="one word"):
        require_access(scope)


def test_equal_guards_ask_once(app: FastAPI, bus: RevokeBus) -> None:
    """A router's guard and a route's own would ask every predicate twice."""
    asked = []

    @bus.deny_if
    def count(token: AccessToken | RefreshToken) -> bool:
        asked.append(token.jti)
        return False

    router = APIRouter(dependencies=[Depends(require_access())])

    @router.get("/twice")
    async def twice(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    app.include_router(router)
    with TestClient(app) as client:
        header = bearer(bus.issue("alice").access_token)
        assert client.get("/twice", headers=header).status_code == 200
    assert len(asked) == 1
    guards: set[object] = {require_access("a"), require_access("b"), require_refresh()}
    assert len(guards) == 3


def test_a_status_can_be_an_answer(app: FastAPI, bus: RevokeBus) -> None:
    """A health route could not return what `status` returns."""

    @app.get("/health")
    async def health() -> BusStatus:
        return bus.status()

    with TestClient(app) as client:
        assert client.get("/health").json()["state"] == "fresh"
        assert client.get("/openapi.json").status_code == 200


def test_a_sync_route_is_told_how_to_revoke(app: FastAPI, bus: RevokeBus) -> None:
    """A route with an event loop of its own would break the connections of the bus."""

    @app.delete("/wrong")
    def wrong(token: Annotated[AccessToken, Depends(require_access())]) -> None:
        asyncio.run(bus.revoke(token))

    @app.delete("/right")
    def right(token: Annotated[AccessToken, Depends(require_access())]) -> None:
        anyio.from_thread.run(bus.revoke, token)

    with TestClient(app) as client:
        header = bearer(bus.issue("alice").access_token)
        with pytest.raises(ConfigurationError, match=r"anyio\.from_thread\.run"):
            client.delete("/wrong", headers=header)
        assert client.delete("/right", headers=header).status_code == 200
        assert client.get("/me", headers=header).status_code == 401


def test_the_application_may_answer_errors_itself(app: FastAPI) -> None:
    """An application could not give its own form to the answers."""

    @app.get("/lost")
    async def lost() -> None:
        raise NotDurableError("applied here, not durable")

    @app.get("/bad")
    async def bad() -> None:
        raise InvalidTokenError

    async def teapot(_request: Request, _error: Exception) -> Response:
        from starlette.responses import PlainTextResponse  # noqa: PLC0415

        return PlainTextResponse("short and stout", 418)

    app.add_exception_handler(InvalidTokenError, teapot)
    with TestClient(app) as client:
        answer = client.get("/lost")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert client.get("/bad").status_code == 418
    app.middleware_stack = None  # built anew with the next handlers
    app.add_exception_handler(UnavailableError, teapot)
    app.add_exception_handler(HTTPException, teapot)
    with TestClient(app) as client:
        assert client.get("/lost").status_code == 418
        assert client.get("/me").status_code == 418


@pytest.mark.parametrize(
    ("origin", "host", "secure", "opens"),
    [
        ("https://app.example", "app.example", True, True),
        ("https://app.example:443", "app.example", True, True),
        ("http://app.example", "app.example", True, False),
        ("http://app.example", "app.example", False, True),
        ("http://localhost:8000", "localhost:8000", True, True),
        ("http://[::1]:8000", "[::1]:8000", True, True),
        ("https://app.example:444", "app.example", True, False),
        ("foo://app.example", "app.example", False, False),
    ],
)
def test_a_page_over_plain_http_is_anybodys(
    make_settings: MakeSettings, origin: str, host: str, *, secure: bool, opens: bool
) -> None:
    """Who can write into an unprotected page could open a WebSocket with its user's cookies."""
    app = FastAPI()
    cookies = CookieSettings(secure=secure)
    bus = RevokeBus.attach(app, make_settings(token_sources=["cookie"], cookies=cookies))

    @app.websocket("/ws")
    async def ws(
        websocket: WebSocket, token: Annotated[AccessToken, Depends(require_access())]
    ) -> None:
        await websocket.accept()
        await websocket.close(reason=token.subject)

    with TestClient(app) as client:
        headers = {"Origin": origin, "Host": host}
        name = bus.settings.cookies.access_name
        headers["Cookie"] = f"{name}={bus.issue('alice').access_token}"
        if opens:
            with client.websocket_connect("/ws", headers=headers):
                pass
        else:
            with (
                pytest.raises(WebSocketDisconnect),
                client.websocket_connect("/ws", headers=headers),
            ):
                pytest.fail("opened")


@pytest.mark.parametrize(
    ("scheme", "value"), [("Bearer", "bearer {}"), ("", "{}"), ("JWT", "JWT {}")]
)
def test_a_header_of_one_s_own(make_settings: MakeSettings, scheme: str, value: str) -> None:
    """An application behind a proxy that puts the token elsewhere could not read it."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings(header_name="X-Auth-Jwt", header_scheme=scheme))
    add_routes(app)
    token = bus.issue("alice").access_token
    with TestClient(app) as client:
        own = {"X-Auth-Jwt": value.format(token)}
        assert client.get("/me", headers=own).json() == "alice"
        assert client.get("/me", headers=bearer(token)).status_code == 401
        # What stands where nobody looks is nobody's.
        assert client.get("/me", headers={**own, **bearer("x")}).status_code == 200
        for wrong in (f"Basic {token}", "Bearer", ""):
            assert client.get("/me", headers={"X-Auth-Jwt": wrong}).status_code == 401
        twice = [("X-Auth-Jwt", value.format(token)), ("x-auth-jwt", value.format(token))]
        assert client.get("/me", headers=twice).status_code == 400


@pytest.mark.parametrize("host", ["x/me?", "me#", "a@b", "x:99999", "", "[::1", "/me"])
def test_cve_2026_48710_cve_2026_54282_no_host_opens_a_route(
    make_settings: MakeSettings, host: str
) -> None:
    """A strange Host would change the address that the guard believes to protect."""
    app = FastAPI()
    cookies = CookieSettings(secure=False)
    bus = RevokeBus.attach(app, make_settings(token_sources=["cookie"], cookies=cookies))
    add_routes(app)

    @app.post("/change")
    async def change(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    with TestClient(app) as client:
        assert client.get("/me", headers={"Host": host}).status_code == 401
        client.cookies.set(bus.settings.cookies.access_name, bus.issue("alice").access_token)
        assert client.post("/change", headers={"Host": host}).status_code == 403
