"""What fastapi-jwt-auth 0.5.0 documents, with its status codes and messages."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings

from revokebus import RevokeBus
from revokebus.compat.fastapi_jwt_auth import AuthJWT
from revokebus.compat.fastapi_jwt_auth.config import Config
from revokebus.compat.fastapi_jwt_auth.exceptions import (
    AccessTokenRequired,
    AuthJWTException,
    CSRFError,
    FreshTokenRequired,
    InvalidHeaderError,
    JWTDecodeError,
    MissingTokenError,
    RefreshTokenRequired,
    RevokedTokenError,
)
from tests.keys import private_pem, public_pem
from tests.support import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import MakeSettings

Auth = Annotated[AuthJWT, Depends()]
LOGGED_IN = "Successfully Login!"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AuthJWT, "config", Config(authjwt_secret_key=SECRET))
    monkeypatch.setattr(AuthJWT, "loader", None)
    monkeypatch.setattr(AuthJWT, "seen", None)


def configure(**settings: Any) -> None:
    AuthJWT.load_config(lambda: [("authjwt_secret_key", SECRET), *settings.items()])


CHECKS = [
    ("/required", "jwt_required"),
    ("/optional", "jwt_optional"),
    ("/refresh", "jwt_refresh_token_required"),
    ("/fresh", "fresh_jwt_required"),
]


def checked_by(check: str) -> Callable[[Auth], Any]:
    def route(auth: Auth) -> Any:
        getattr(auth, check)()
        return auth.get_jwt_subject()

    return route


async def in_async(auth: Auth) -> Any:
    auth.jwt_required()
    return auth.get_jwt_subject()


async def open_to_all(auth: Auth) -> Any:
    return auth.get_unverified_jwt_headers()


def raw(auth: Auth) -> Any:
    auth.jwt_required()
    return auth.get_raw_jwt()


def set_both(auth: Auth) -> None:
    auth.set_access_cookies(auth.create_access_token("test", fresh=True))
    auth.set_refresh_cookies(auth.create_refresh_token("test"))


def unset_both(auth: Auth) -> None:
    auth.unset_jwt_cookies()


async def socket(
    websocket: WebSocket, check: str, auth: Auth, token: str = "", csrf: str | None = None
) -> None:
    await websocket.accept()
    options: dict[str, Any] = {"token": token}
    if not token and websocket.query_params.get("in") != "query":
        options = {"websocket": websocket, "csrf_token": csrf}
    try:
        getattr(auth, check)("websocket", **options)
        await websocket.send_text(LOGGED_IN)
    except AuthJWTException as error:
        await websocket.send_text(f"{error.status_code} {error.message}")
    await websocket.close()


def answer(_: Request, error: AuthJWTException) -> JSONResponse:
    return JSONResponse({"detail": error.message}, error.status_code)


def make_app() -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(AuthJWTException, answer)  # type: ignore[arg-type]  # of its own kind
    for path, check in CHECKS:
        app.add_api_route(path, checked_by(check), methods=["GET", "POST"])
    for path, route in [
        ("/async", in_async),
        ("/open", open_to_all),
        ("/raw", raw),
        ("/set", set_both),
        ("/unset", unset_both),
    ]:
        app.add_api_route(path, route)
    app.add_api_websocket_route("/ws/{check}", socket)
    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(make_app())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def told(client: TestClient, path: str, token: str, method: str = "GET") -> tuple[int, Any]:
    answer = client.request(method, path, headers=bearer(token))
    body = answer.json()
    return answer.status_code, body["detail"] if answer.status_code >= 400 else body


def encode(claims: dict[str, Any], key: Any = SECRET, **options: Any) -> str:
    return jwt.encode({"type": "access", "sub": "test", "jti": "j", **claims}, key, **options)


# Making


def test_a_token_has_the_documented_claims() -> None:
    """What other services read from the tokens would be missing."""
    auth = AuthJWT(Request({"type": "http", "headers": []}))
    now = int(time.time())
    access = jwt.decode(auth.create_access_token("test"), SECRET, algorithms=["HS256"])
    assert access["sub"] == "test"
    assert (access["type"], access["fresh"]) == ("access", False)
    assert access["exp"] - access["iat"] == 15 * 60
    assert 0 <= access["nbf"] - now <= 2
    refresh = jwt.decode(auth.create_refresh_token("test"), SECRET, algorithms=["HS256"])
    assert refresh["type"] == "refresh"
    assert "fresh" not in refresh
    assert refresh["exp"] - refresh["iat"] == 30 * 86_400
    assert refresh["jti"] != access["jti"]
    assert refresh["sid"] == access["sid"]


@pytest.mark.parametrize(
    ("expires_time", "life"), [(90, 90), (timedelta(days=1), 86_400), (True, 900), (None, 900)]
)
def test_the_life_can_be_given(expires_time: Any, life: int) -> None:
    """A token for a minute would live for a quarter of an hour."""
    token = AuthJWT().create_access_token("test", expires_time=expires_time)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == life


def test_tokens_can_be_without_an_end() -> None:
    """`False` would be taken for no answer."""
    token = AuthJWT().create_refresh_token("test", expires_time=False)
    assert "exp" not in jwt.decode(token, SECRET, algorithms=["HS256"])
    configure(authjwt_access_token_expires=False, authjwt_refresh_token_expires=7)
    assert "exp" not in jwt.decode(
        AuthJWT().create_access_token("test"), SECRET, algorithms=["HS256"]
    )
    claims = jwt.decode(AuthJWT().create_refresh_token("test"), SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 7


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        ({"subject": 0.5}, TypeError, "subject"),
        ({"fresh": "yes"}, TypeError, "fresh"),
        ({"expires_time": "soon"}, TypeError, "expires_time"),
        ({"audience": 1}, TypeError, "audience"),
        ({"algorithm": 1}, TypeError, "algorithm"),
        ({"algorithm": "none"}, ValueError, "Algorithm none"),
        ({"algorithm": "RS256"}, RuntimeError, "authjwt_private_key"),
        ({"user_claims": "asd"}, TypeError, "user_claims"),
    ],
)
def test_a_wrong_argument_is_said(wrong: dict[str, Any], error: type[Exception], word: str) -> None:
    """A slip would make a token that nobody accepts, or that means something else."""
    with pytest.raises(error, match=word):
        AuthJWT().create_access_token(**{"subject": "test", **wrong})
    if "fresh" not in wrong:
        with pytest.raises(error, match=word):
            AuthJWT().create_refresh_token(**{"subject": "test", **wrong})


def test_claims_and_header_can_be_added() -> None:
    """What a program keeps in its tokens would be lost."""
    auth = AuthJWT()
    token = auth.create_access_token(
        1, headers={"kid": "k"}, audience={"a"}, user_claims={"role": "admin"}
    )
    claims = jwt.decode(
        token, SECRET, algorithms=["HS256"], audience="a", options={"verify_sub": False}
    )
    assert (claims["role"], claims["aud"], claims["sub"]) == ("admin", ["a"], 1)
    assert auth.get_unverified_jwt_headers(token)["kid"] == "k"


def test_without_a_key_there_is_no_token() -> None:
    """Tokens would be signed with nothing."""
    AuthJWT.load_config(list)
    with pytest.raises(RuntimeError, match="authjwt_secret_key"):
        AuthJWT().create_access_token("test")


# Checking


def test_each_check_lets_pass_what_it_should(client: TestClient) -> None:
    """A program would refuse its own users, or take any token for any purpose."""
    auth = AuthJWT()
    access, refresh = auth.create_access_token("test"), auth.create_refresh_token("test")
    fresh = auth.create_access_token("test", fresh=True)
    only_access = (422, "Only access tokens are allowed")
    for path in ("/required", "/optional", "/async"):
        assert told(client, path, access) == (200, "test")
        assert told(client, path, refresh) == only_access
    assert told(client, "/refresh", refresh, "POST") == (200, "test")
    assert told(client, "/refresh", access, "POST") == (422, "Only refresh tokens are allowed")
    assert told(client, "/fresh", fresh) == (200, "test")
    assert told(client, "/fresh", access) == (401, "Fresh token required")
    assert told(client, "/fresh", refresh) == only_access
    assert client.get("/optional").json() is None
    for path in ("/required", "/fresh"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (
            401,
            {"detail": "Missing Authorization Header"},
        )


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "test", "Bearertest", "Bearer a b", "bearer x", " "]
)
def test_a_header_that_is_something_else(client: TestClient, value: str) -> None:
    """A client's slip would look like an expired token."""
    answer = client.get("/required", headers={"Authorization": value})
    expected = "Bad Authorization header. Expected value 'Bearer <JWT>'"
    assert (answer.status_code, answer.json()) == (422, {"detail": expected})


def test_another_header(client: TestClient) -> None:
    """A program with a header of its own would see no token."""
    token = AuthJWT().create_access_token("test")
    configure(authjwt_header_name="X-Token", authjwt_header_type="")
    assert client.get("/required", headers={"X-Token": token}).status_code == 200
    answer = client.get("/required", headers={"X-Token": f"JWT {token}"})
    assert answer.json() == {"detail": "Bad X-Token header. Expected value '<JWT>'"}
    assert client.get("/required").json() == {"detail": "Missing X-Token Header"}
    configure(authjwt_header_type="(J.T")
    assert client.get("/required", headers={"Authorization": f"(J.T {token}"}).status_code == 200
    assert client.get("/required", headers={"Authorization": f"(JWT {token}"}).status_code == 422


def test_what_is_wrong_with_a_token_is_said_in_its_words(client: TestClient) -> None:
    """A front end that looks for the message would not ask for a new sign-in."""
    now = int(time.time())
    cases = {
        "test": "Not enough segments",
        encode({}, "k" * 64): "Signature verification failed",
        encode({"exp": now - 5}): "Signature has expired",
        encode({"nbf": now + 60}): "The token is not yet valid (nbf)",
        encode({}, SECRET, algorithm="HS384"): "The specified alg value is not allowed",
        encode({"aud": "x"}): "Invalid audience",
    }
    for token, message in cases.items():
        assert told(client, "/required", token) == (422, message)
        assert told(client, "/optional", token) == (422, message)
    configure(authjwt_decode_leeway=60)
    assert told(client, "/required", encode({"exp": now - 5})) == (200, "test")
    configure(authjwt_decode_leeway=timedelta(seconds=60))
    assert told(client, "/required", encode({"exp": now - 5})) == (200, "test")


def test_the_issuer_of_access_tokens(client: TestClient) -> None:
    """Tokens of another service with the same key would be accepted."""
    token = AuthJWT().create_access_token("test")
    refresh = AuthJWT().create_refresh_token("test")
    configure(authjwt_decode_issuer="urn:foo")
    assert told(client, "/required", token) == (422, 'Token is missing the "iss" claim')
    configure(authjwt_decode_issuer="urn:foo", authjwt_encode_issuer="urn:bar")
    assert told(client, "/required", AuthJWT().create_access_token("test")) == (
        422,
        "Invalid issuer",
    )
    configure(authjwt_decode_issuer="urn:foo", authjwt_encode_issuer="urn:foo")
    assert told(client, "/required", AuthJWT().create_access_token("test")) == (200, "test")
    assert told(client, "/refresh", refresh, "POST") == (200, "test")


@pytest.mark.parametrize("audience", ["foo", ["bar"], ["foo", "bar", "baz"]])
def test_the_audience(client: TestClient, audience: Any) -> None:
    """A token for another service would be accepted, or one for this one refused."""
    configure(authjwt_decode_audience=["foo", "bar"])
    auth = AuthJWT()
    token = auth.create_access_token(1, audience=audience)
    assert told(client, "/required", token) == (200, 1)
    refresh = auth.create_refresh_token(1, audience=audience)
    assert told(client, "/refresh", refresh, "POST") == (200, 1)
    missing = (422, 'Token is missing the "aud" claim')
    assert told(client, "/refresh", auth.create_refresh_token(1), "POST") == missing
    configure(authjwt_decode_audience="other")
    assert told(client, "/required", token) == (422, "Invalid audience")


def test_asymmetric_keys(client: TestClient) -> None:
    """Whoever signs with a private key could not move over."""
    symmetric = AuthJWT().create_access_token("test")
    private, public = private_pem("rsa"), public_pem("rsa")
    keys = {"authjwt_private_key": private, "authjwt_public_key": public}
    configure(authjwt_algorithm="RS512", **keys)
    assert told(client, "/required", AuthJWT().create_access_token("test")) == (200, "test")
    not_allowed = (422, "The specified alg value is not allowed")
    assert told(client, "/required", symmetric) == not_allowed
    # The public key as the secret of a HMAC, which everybody could sign with.
    configure(authjwt_decode_algorithms=["HS256", "RS512"], **keys)
    assert told(client, "/required", symmetric) == (200, "test")
    configure(authjwt_algorithm="ES256", authjwt_private_key=private_pem("p256"))
    token = AuthJWT().create_access_token("test")
    with pytest.raises(RuntimeError, match="authjwt_public_key"):
        client.get("/required", headers=bearer(token))
    configure(
        authjwt_algorithm="ES256",
        authjwt_private_key=private_pem("p256"),
        authjwt_public_key=public_pem("p256"),
    )
    assert told(client, "/required", token) == (200, "test")


def test_the_algorithm_can_be_chosen_for_each_token(client: TestClient) -> None:
    """A program that signs some of its tokens otherwise would not accept them."""
    private, public = private_pem("rsa"), public_pem("rsa")
    configure(
        authjwt_decode_algorithms=["HS384", "RS512"],
        authjwt_private_key=private,
        authjwt_public_key=public,
    )
    auth = AuthJWT()
    for algorithm in ("HS384", "RS512"):
        token = auth.create_access_token("test", algorithm=algorithm)
        assert auth.get_unverified_jwt_headers(token)["alg"] == algorithm
        assert told(client, "/required", token) == (200, "test")
        refresh = auth.create_refresh_token("test", algorithm=algorithm)
        assert told(client, "/refresh", refresh, "POST") == (200, "test")
    not_allowed = (422, "The specified alg value is not allowed")
    assert told(client, "/required", auth.create_access_token("test")) == not_allowed


def test_a_token_can_be_read(client: TestClient) -> None:
    """Programs that look at claims would have none."""
    claims = {"jti": "123", "sub": "test", "type": "access", "fresh": True}
    token = jwt.encode(claims, SECRET)
    assert told(client, "/raw", token) == (200, claims)
    auth = AuthJWT()
    assert auth.get_raw_jwt(token) == claims
    assert auth.get_jti(token) == "123"
    assert auth.get_unverified_jwt_headers(token) == {"alg": "HS256", "typ": "JWT"}
    assert auth.get_raw_jwt() is None
    assert auth.get_jwt_subject() is None
    assert client.get("/open", headers=bearer(token)).json()["alg"] == "HS256"
    assert client.get("/open").status_code == 401


# The denylist


def test_the_loader_decides(client: TestClient) -> None:
    """A signed-out user would go on."""
    denied: set[str] = set()
    asked: list[str] = []

    @AuthJWT.token_in_denylist_loader
    def is_denied(claims: dict[str, Any]) -> bool:
        asked.append(claims["type"])
        return claims["jti"] in denied

    auth = AuthJWT()
    access, refresh = auth.create_access_token("test"), auth.create_refresh_token("test")
    assert told(client, "/required", access) == (200, "test")
    assert asked == []  # it is not enabled
    configure(authjwt_denylist_enabled=True, authjwt_denylist_token_checks=["access"])
    denied |= {auth.get_jti(access), auth.get_jti(refresh)}
    for path in ("/required", "/optional", "/fresh", "/async"):
        assert told(client, path, access) == (401, "Token has been revoked")
    assert told(client, "/refresh", refresh, "POST") == (200, "test")
    configure(authjwt_denylist_enabled=True)
    assert told(client, "/refresh", refresh, "POST") == (401, "Token has been revoked")
    assert set(asked) == {"access", "refresh"}


def test_a_denylist_without_a_loader_is_an_error(client: TestClient) -> None:
    """Nothing would be refused although the setting says so."""
    configure(authjwt_denylist_enabled=True)
    with pytest.raises(RuntimeError, match="@AuthJWT"):
        client.get("/required", headers=bearer(AuthJWT().create_access_token("test")))


@pytest.mark.parametrize("path", ["/required", "/async", "/optional", "/fresh"])
def test_an_async_loader(client: TestClient, path: str) -> None:
    """A look-up in a database would block the event loop, or not be waited for: accepted."""
    denied: set[str] = set()

    class Loader:
        async def __call__(self, claims: dict[str, Any]) -> bool:
            await asyncio.sleep(0)
            return claims["jti"] in denied

    AuthJWT.token_in_denylist_loader(Loader())
    configure(authjwt_denylist_enabled=True)
    token = AuthJWT().create_access_token("test", fresh=True)
    assert told(client, path, token) == (200, "test")
    denied.add(AuthJWT().get_jti(token))
    assert told(client, path, token) == (401, "Token has been revoked")


def test_an_async_loader_that_fails_lets_nobody_in(client: TestClient) -> None:
    """A database that is away would sign everybody in again."""

    @AuthJWT.token_in_denylist_loader
    async def fail(_: dict[str, Any]) -> bool:
        raise ConnectionError("the database")

    configure(authjwt_denylist_enabled=True)
    token = AuthJWT().create_access_token("test")
    with pytest.raises(ConnectionError):
        client.get("/async", headers=bearer(token))
    assert client.get("/open", headers=bearer(token)).status_code == 200  # it needs no answer


def test_a_websocket_asks_an_async_loader_first() -> None:
    """It would not be asked, or what it said an hour ago would count."""
    denied: set[str] = set()

    @AuthJWT.token_in_denylist_loader
    async def is_denied(claims: dict[str, Any]) -> bool:
        return claims["jti"] in denied

    configure(authjwt_denylist_enabled=True)
    token = AuthJWT().create_access_token("test")

    async def use() -> None:
        auth = AuthJWT()
        with pytest.raises(RuntimeError, match="ask_denylist"):
            auth.jwt_required("websocket", token=token)
        await auth.ask_denylist(token)
        auth.jwt_required("websocket", token=token)
        with pytest.raises(RuntimeError, match="ask_denylist"):
            auth.jwt_required("websocket", token=token)
        denied.add(auth.get_jti(token))
        await auth.ask_denylist(token)
        with pytest.raises(RevokedTokenError):
            auth.jwt_required("websocket", token=token)

    asyncio.run(use())


# Cookies


def in_cookies(**settings: Any) -> None:
    configure(authjwt_token_location=["cookies"], **settings)


def test_tokens_in_cookies(client: TestClient) -> None:
    """A browser could not be signed in, or out again."""
    in_cookies()
    answer = client.get("/required")
    assert (answer.status_code, answer.json()) == (
        401,
        {"detail": "Missing cookie access_token_cookie"},
    )
    assert client.post("/refresh").json() == {"detail": "Missing cookie refresh_token_cookie"}
    assert client.get("/optional").json() is None
    answer = client.get("/set")
    set_cookies = answer.headers.get_list("set-cookie")
    assert len(set_cookies) == 4
    for cookie in set_cookies:
        assert ("HttpOnly" in cookie) == ("csrf" not in cookie.partition("=")[0])
        assert "Path=/" in cookie
        assert "SameSite" not in cookie
    assert client.get("/required").json() == "test"
    assert client.get("/fresh").json() == "test"
    client.get("/unset")
    assert not client.cookies
    assert client.get("/required").status_code == 401


def test_how_cookies_are_set(client: TestClient) -> None:
    """A setting of the program would not count."""
    in_cookies(
        authjwt_access_cookie_key="at",
        authjwt_access_cookie_path="/api",
        authjwt_cookie_max_age=60,
        authjwt_cookie_domain="example.com",
        authjwt_cookie_secure=True,
        authjwt_cookie_samesite="strict",
        authjwt_cookie_csrf_protect=False,
    )
    access, refresh = client.get("/set").headers.get_list("set-cookie")
    assert access.startswith("at=")
    for part in ("Path=/api", "Max-Age=60", "Domain=example.com", "Secure", "SameSite=strict"):
        assert part in access
    assert refresh.startswith("refresh_token_cookie=")
    response = Response()
    auth = AuthJWT()
    auth.set_access_cookies(auth.create_access_token("test"), response, max_age=5)
    assert "Max-Age=5" in response.headers["set-cookie"]
    with pytest.raises(TypeError, match="max_age"):
        auth.set_access_cookies("x", response, max_age="5")  # type: ignore[arg-type]  # that it is refused
    with pytest.raises(TypeError, match="response"):
        auth.unset_jwt_cookies()


@pytest.mark.parametrize(
    "method",
    [
        "set_access_cookies",
        "set_refresh_cookies",
        "unset_jwt_cookies",
        "unset_access_cookies",
        "unset_refresh_cookies",
    ],
)
def test_cookies_need_the_setting(method: str) -> None:
    """Tokens would be put where nobody looks for them."""
    arguments = ["token"] if method.startswith("set") else []
    with pytest.raises(RuntimeWarning, match="authjwt_token_location"):
        getattr(AuthJWT(), method)(*arguments)


@pytest.mark.parametrize("path", ["/required", "/optional", "/refresh"])
def test_another_sites_page_cannot_use_the_cookie(client: TestClient, path: str) -> None:
    """Any page could act for whoever visits it."""
    in_cookies()
    client.get("/set")
    kind = "refresh" if path == "/refresh" else "access"
    value = client.cookies[f"csrf_{kind}_token"]
    answer = client.post(path)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Missing CSRF Token"})
    answer = client.post(path, headers={"X-CSRF-Token": "other"})
    assert (answer.status_code, answer.json()) == (
        401,
        {"detail": "CSRF double submit tokens do not match"},
    )
    assert client.post(path, headers={"X-CSRF-Token": value}).json() == "test"
    in_cookies(authjwt_csrf_methods={"get"})
    assert client.post(path).json() == "test"
    in_cookies(authjwt_cookie_csrf_protect=False)
    client.get("/set")
    assert client.post(path).json() == "test"
    in_cookies()
    answer = client.post(path, headers={"X-CSRF-Token": value})
    assert (answer.status_code, answer.json()) == (422, {"detail": "Missing claim: csrf"})


def test_the_header_comes_before_the_cookie(client: TestClient) -> None:
    """A program for browsers and for others would serve one of them."""
    configure(authjwt_token_location=("headers", "cookies"))
    assert client.get("/required").json() == {"detail": "Missing cookie access_token_cookie"}
    client.get("/set")
    assert client.get("/required").json() == "test"
    other = AuthJWT().create_access_token("other")
    assert told(client, "/required", other) == (200, "other")
    assert told(client, "/required", other, "POST") == (
        200,
        "other",
    )  # a header needs no CSRF value


# WebSockets


def said(client: TestClient, check: str, **query: str) -> str:
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    with client.websocket_connect(f"/ws/{check}?{parameters}") as socket:
        return socket.receive_text()


def test_a_websocket_with_its_token_in_the_query(client: TestClient) -> None:
    """A chat would be open to all, or closed."""
    auth = AuthJWT()
    access, refresh = auth.create_access_token("test"), auth.create_refresh_token("test")
    fresh = auth.create_access_token("test", fresh=True)
    query = {"in": "query"}
    for check in ("jwt_required", "fresh_jwt_required"):
        assert said(client, check, **query) == "1008 Missing access token from Query or Path"
    missing = said(client, "jwt_refresh_token_required", **query)
    assert missing == "1008 Missing refresh token from Query or Path"
    assert said(client, "jwt_optional", **query) == LOGGED_IN
    assert said(client, "jwt_required", token=access) == LOGGED_IN
    assert said(client, "jwt_optional", token=access) == LOGGED_IN
    assert said(client, "jwt_refresh_token_required", token=refresh) == LOGGED_IN
    assert said(client, "fresh_jwt_required", token=fresh) == LOGGED_IN
    assert said(client, "fresh_jwt_required", token=access) == "401 Fresh token required"
    for check in ("jwt_required", "jwt_optional", "fresh_jwt_required"):
        assert said(client, check, token=refresh) == "422 Only access tokens are allowed"
    refused = said(client, "jwt_refresh_token_required", token=access)
    assert refused == "422 Only refresh tokens are allowed"


@pytest.mark.parametrize(
    "check", ["jwt_required", "jwt_optional", "jwt_refresh_token_required", "fresh_jwt_required"]
)
def test_a_websocket_with_a_cookie(client: TestClient, check: str) -> None:
    """Any page could open one for whoever visits it."""
    in_cookies()
    kind = "refresh" if "refresh" in check else "access"
    expected = LOGGED_IN if check == "jwt_optional" else f"401 Missing cookie {kind}_token_cookie"
    assert said(client, check) == expected
    client.get("/set")
    assert said(client, check) == "401 Missing CSRF Token"
    assert said(client, check, csrf="x") == "401 CSRF double submit tokens do not match"
    value = client.cookies[f"csrf_{kind}_token"]
    assert said(client, check, csrf=value) == LOGGED_IN
    in_cookies(authjwt_cookie_csrf_protect=False)
    assert said(client, check) == LOGGED_IN
    with pytest.raises(TypeError, match="request"):
        getattr(AuthJWT(), check)("websocket", websocket="no WebSocket")


# Configuration


def test_every_kind_of_settings_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's settings class would have to be rewritten."""

    class Model(BaseModel):
        authjwt_secret_key: str = "m" * 32
        authjwt_token_location: set[str] = {"headers", "cookies"}
        access_expires: timedelta = timedelta(minutes=1)  # its own

    class FromEnvironment(BaseSettings):
        authjwt_secret_key: SecretStr
        authjwt_denylist_token_checks: list[str] = ["refresh"]

    @AuthJWT.load_config
    def get_config() -> Model:
        return Model()

    assert AuthJWT.config.authjwt_secret_key == "m" * 32
    assert AuthJWT.config.authjwt_token_location == {"headers", "cookies"}
    monkeypatch.setenv("AUTHJWT_SECRET_KEY", "e" * 32)
    AuthJWT.load_config(FromEnvironment)
    assert AuthJWT.config.authjwt_secret_key == "e" * 32
    assert AuthJWT.config.authjwt_denylist_token_checks == {"refresh"}
    AuthJWT.load_config(lambda: [("AUTHJWT_SECRET_KEY", "u" * 32)])
    assert AuthJWT.config.authjwt_secret_key == "u" * 32
    assert "u" * 32 not in repr(AuthJWT.config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authjwt_token_location", ["body"]),
        ("authjwt_token_location", None),
        ("authjwt_secret_key", 123),
        ("authjwt_secret_key", " "),
        ("authjwt_algorithm", 1),
        ("authjwt_decode_algorithms", "HS256"),
        ("authjwt_decode_leeway", "1"),
        ("authjwt_denylist_enabled", "yes"),
        ("authjwt_denylist_token_checks", ["id"]),
        ("authjwt_access_token_expires", True),
        ("authjwt_refresh_token_expires", True),
        ("authjwt_refresh_token_expires", "soon"),
        ("authjwt_cookie_samesite", "sometimes"),
        ("authjwt_csrf_methods", ["TRACE"]),
        ("authjwt_cookie_secure", 1),
        ("authjwt_cookie_max_age", "60"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: object) -> None:
    """A slip in the configuration would switch a check off."""
    with pytest.raises(ValidationError, match=name):
        AuthJWT.load_config(lambda: [(name, value)])


@pytest.mark.parametrize("settings", [1, "ab", [1, 2], {"authjwt_secret_key": "x"}, None])
def test_something_else_is_no_settings(settings: object) -> None:
    """The program would run with none."""
    with pytest.raises(TypeError, match="BaseSettings"):
        AuthJWT.load_config(lambda: settings)


def test_the_exceptions_are_those_that_programs_catch() -> None:
    """A handler of a program would not be called."""
    kinds = [
        InvalidHeaderError,
        JWTDecodeError,
        CSRFError,
        MissingTokenError,
        RevokedTokenError,
        AccessTokenRequired,
        RefreshTokenRequired,
        FreshTokenRequired,
    ]
    for kind in kinds:
        error = kind(status_code=401, message="m")
        assert isinstance(error, AuthJWTException)
        assert (error.status_code, error.message, str(error)) == (401, "m", "m")


async def test_a_bus_that_issues_nothing_is_not_asked_when_a_session_begins(
    make_settings: MakeSettings,
) -> None:
    """A sign-in would end in an error where somebody else issues the bus's own tokens."""
    keys = {"secret_key": None, "jwks_url": "https://idp.example/jwks"}
    others: dict[str, Any] = {
        **keys,
        "issuer": "https://idp.example",
        "audience": "api",
        "startup_timeout": 0.1,
    }
    async with RevokeBus(make_settings(**others)) as bus:
        app = FastAPI()
        app.state.revokebus = bus
        auth = AuthJWT(Request({"type": "http", "headers": [], "app": app}))
        token = auth.create_access_token("test")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert abs(claims["auth_time"] - time.time()) < 60
