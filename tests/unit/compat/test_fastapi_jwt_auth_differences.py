"""Where the shim for fastapi-jwt-auth answers otherwise; the guide lists each, with its test."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.datastructures import State
from starlette.responses import Response

from revokebus import AccessToken, RevokeBus, RevokeBusError
from revokebus.compat.fastapi_jwt_auth import AuthJWT
from revokebus.compat.fastapi_jwt_auth.config import Config
from revokebus.compat.fastapi_jwt_auth.denylist import Registered, Verdict
from revokebus.compat.fastapi_jwt_auth.exceptions import (
    AuthJWTException,
    CSRFError,
    DenylistUnavailableError,
    InvalidHeaderError,
    JWTDecodeError,
    MissingTokenError,
)
from revokebus.testing import ManualClock
from tests.hostile import (
    good_claims,
    hostile_forms,
    hostile_headers,
    hostile_tokens,
    with_claims,
    with_header,
)
from tests.keys import private_pem, public_pem
from tests.support import SECRET

if TYPE_CHECKING:
    from revokebus.settings.settings import OnStale
    from tests.support import MakeSettings

Auth = Annotated[AuthJWT, Depends()]


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(authjwt_secret_key=SECRET, authjwt_denylist_enabled=True)
    monkeypatch.setattr(AuthJWT, "config", config)
    monkeypatch.setattr(AuthJWT, "loader", None)
    monkeypatch.setattr(AuthJWT, "seen", None)
    AuthJWT.token_in_denylist_loader(lambda claims: claims["jti"] == "denied")


def configure(**settings: Any) -> None:
    AuthJWT.load_config(lambda: [("authjwt_secret_key", SECRET), *settings.items()])


def make_app() -> FastAPI:
    app = FastAPI()

    @app.exception_handler(AuthJWTException)
    def answer(_: Request, error: AuthJWTException) -> JSONResponse:
        return JSONResponse({"detail": error.message}, error.status_code)

    @app.api_route("/required", methods=["GET", "POST"])
    def required(auth: Auth) -> Any:
        auth.jwt_required()

    @app.get("/async")
    async def in_async(auth: Auth) -> Any:
        auth.jwt_required()

    @app.get("/fresh")
    def fresh(auth: Auth) -> Any:
        auth.fresh_jwt_required()

    @app.post("/twice")
    def twice(auth: Auth) -> Any:
        with pytest.raises(AuthJWTException):
            auth.jwt_required()
        auth.jwt_required()

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, token: str, auth: Auth) -> None:
        await websocket.accept()
        try:
            auth.jwt_required("websocket", token=token)
            await websocket.send_text("accepted")
        except AuthJWTException as error:
            await websocket.send_text(error.message)
        await websocket.close()

    return app


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(make_app())


def told(client: TestClient, token: str, path: str = "/required") -> tuple[int, str]:
    """Return the status, and the message; an exception in the program would be raised here."""
    answer = client.get(path, headers={b"Authorization": f"Bearer {token}".encode()})
    return answer.status_code, "" if answer.is_success else answer.json()["detail"]


OF_FORM = {**hostile_headers(SECRET), **hostile_forms(SECRET)}
# Not read by PyJWT, and harmless to it: the key is never taken from the token.
PASSED_OVER = {"jwk", "jku", "x5u", "zip", "typ of a logout token", "typ a list"}
PASSED_OVER |= {"kid of 5000 characters", "kid with a lone surrogate"}


@pytest.mark.parametrize("name", [each for each in OF_FORM if each not in PASSED_OVER])
def test_a_hostile_token_is_no_error_of_the_program(client: TestClient, name: str) -> None:
    """Anybody could fill the log with tracebacks: an algorithm that does not exist was a 500."""
    try:
        status, message = told(client, OF_FORM[name])
    except ValueError:  # what no client can send
        assert name in ("not ASCII", "NUL")
        return
    assert status == 422
    assert OF_FORM[name][:20] not in message or len(OF_FORM[name]) < 20


@pytest.mark.parametrize("name", hostile_tokens(SECRET))
def test_odd_claims_are_no_error_of_the_program(name: str, make_settings: MakeSettings) -> None:
    """A token without ``type`` or ``jti`` was a 500."""
    app = make_app()
    RevokeBus.attach(app, make_settings())
    with TestClient(app) as client:
        try:
            status, _ = told(client, hostile_tokens(SECRET)[name])
        except ValueError:  # what no client can send
            assert name in ("not ASCII", "NUL")
        else:
            assert status in (200, 401, 422)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_any_header_is_a_token_or_none(text: str) -> None:
    """A stranger could find a header that ends in a traceback."""
    auth = AuthJWT()
    for look in (auth.get_raw_jwt, auth.get_unverified_jwt_headers, auth.get_jti):
        with pytest.raises(AuthJWTException) as caught:
            look(text)
        assert caught.value.status_code == 422


@pytest.mark.parametrize("claim", ["type", "jti"])
@pytest.mark.parametrize("value", [..., 5, ["access"], None])
def test_a_claim_that_is_needed_is_named(client: TestClient, claim: str, value: object) -> None:
    """It was a 500."""
    assert told(client, with_claims(SECRET, **{claim: value})) == (422, f"Missing claim: {claim}")


def test_a_subject_that_is_none_is_named() -> None:
    """`get_jwt_subject` was a 500, or handed a list to the program."""
    auth = AuthJWT()
    auth._token = with_claims(SECRET, sub=...)
    with pytest.raises(JWTDecodeError, match="Missing claim: sub"):
        auth.get_jwt_subject()


def test_junk_in_a_signature_is_refused(client: TestClient) -> None:
    """One token had many texts: whoever compares or logs them could be deceived."""
    head, payload, signature = with_claims(SECRET).split(".")
    assert told(client, f"{head}.{payload}.{signature}")[0] == 200
    for junk in (f"{signature[:5]}!{signature[5:]}", f"{signature}=", f"{signature}/+"):
        assert told(client, f"{head}.{payload}.{junk}") == (422, "Invalid header padding")
    other_bits = signature[:-1] + chr(ord(signature[-1]) + 1)
    assert told(client, f"{head}.{payload}.{other_bits}")[0] == 422


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": True}])
def test_what_must_be_understood_and_is_not(client: TestClient, header: dict[str, Any]) -> None:
    """A token that says that it is to be read otherwise was read all the same."""
    token = with_header(SECRET, **header)
    assert told(client, token) == (422, "Invalid header string")


def test_an_algorithm_without_a_key_that_is_not_allowed(client: TestClient) -> None:
    """Anybody could cause the error of a server without its key."""
    token = jwt.encode(good_claims(), private_pem("rsa"), algorithm="RS256")
    assert told(client, token) == (422, "The specified alg value is not allowed")
    keys = {"authjwt_private_key": private_pem("rsa"), "authjwt_public_key": public_pem("rsa")}
    configure(authjwt_algorithm="RS256", authjwt_decode_algorithms=["RS256", "ES256"], **keys)
    other = jwt.encode(good_claims(), private_pem("p256"), algorithm="ES256")
    assert told(client, other) == (422, "Invalid token")


def test_a_csrf_header_of_any_bytes(client: TestClient) -> None:
    """It was a 500."""
    configure(authjwt_token_location=["cookies"])
    token = AuthJWT().create_access_token("test")
    cookie = {b"Cookie": f"access_token_cookie={token}".encode(), b"X-CSRF-Token": b"\xff\xe9"}
    answer = client.post("/required", headers=cookie)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "CSRF double submit tokens do not match"}
    for value in (5, None, ["a"], ...):
        cookie[b"Cookie"] = f"access_token_cookie={with_claims(SECRET, csrf=value)}".encode()
        answer = client.post("/required", headers=cookie)
        assert (answer.status_code, answer.json()) == (422, {"detail": "Missing claim: csrf"})


def test_a_second_check_asks_for_the_csrf_value_again(client: TestClient) -> None:
    """Whoever caught the first refusal let another site's page in."""
    configure(authjwt_token_location=["headers", "cookies"])
    token = AuthJWT().create_access_token("test")
    answer = client.post("/twice", headers={"Cookie": f"access_token_cookie={token}"})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Missing CSRF Token"})


def test_a_misspelt_auth_from_is_an_error() -> None:
    """It checked nothing, and the request went on."""
    with pytest.raises(ValueError, match="auth_from"):
        AuthJWT().jwt_required("websockets")  # type: ignore[arg-type]  # what it is to refuse


def test_an_optional_token_has_the_issuer_too() -> None:
    """Another service's token was good for `jwt_optional`."""
    configure(authjwt_decode_issuer="urn:foo")
    auth = AuthJWT()
    with pytest.raises(JWTDecodeError, match="iss"):
        auth.jwt_optional("websocket", token=with_claims(SECRET))


@pytest.mark.parametrize("value", ["no", 1, [0]])
def test_only_true_is_fresh(client: TestClient, value: object) -> None:
    """Whatever Python takes for true was fresh; none was a 500."""
    assert told(client, with_claims(SECRET, fresh=value), "/fresh")[0] == 401
    assert told(client, with_claims(SECRET), "/fresh") == (401, "Fresh token required")
    assert told(client, with_claims(SECRET, fresh=True), "/fresh")[0] == 200


def test_a_token_of_the_future_is_refused(client: TestClient) -> None:
    """Only ``nbf`` was looked at."""
    token = with_claims(SECRET, iat=int(time.time()) + 600)
    assert told(client, token) == (422, "The token is not yet valid (nbf)")


def test_the_type_of_the_header_is_no_pattern(client: TestClient) -> None:
    """A type with a dot let others pass."""
    configure(authjwt_header_type="J.T")
    answer = client.get("/required", headers={"Authorization": f"JWT {with_claims(SECRET)}"})
    assert answer.status_code == 422


def test_messages_do_not_quote_the_token() -> None:
    """What PyJWT says of bytes it cannot read came back to the sender, and into logs."""
    for token in hostile_tokens(SECRET).values():
        with pytest.raises((InvalidHeaderError, JWTDecodeError)) as caught:
            AuthJWT().get_raw_jwt(token + "x" if token.count(".") == 2 else token)
        assert len(caught.value.message) < 60


def test_no_token_has_no_header() -> None:
    """It was PyJWT's own error, and so a 500."""
    with pytest.raises(MissingTokenError):
        AuthJWT().get_unverified_jwt_headers()


def test_a_decorated_function_stays_itself() -> None:
    """It became None, and could not be called in a test."""

    @AuthJWT.load_config
    def settings() -> list[tuple[str, object]]:
        return [("authjwt_secret_key", SECRET)]

    @AuthJWT.token_in_denylist_loader
    def loader(claims: dict[str, Any]) -> bool:
        return bool(claims)

    assert settings()
    assert loader({"a": 1})


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_setting_that_is_none_is_refused(name: str) -> None:
    """None for the types that are checked was an error in each request."""
    default = Config.model_fields[name].default
    if default is None or name == "authjwt_header_type":
        AuthJWT.load_config(lambda: [(name, None)])
        return
    with pytest.raises(ValidationError, match=name):
        AuthJWT.load_config(lambda: [(name, None)])


def test_an_error_of_the_settings_function_stays_itself() -> None:
    """It became "Config must be pydantic", and nobody could see what was wrong."""

    def fail() -> object:
        raise FileNotFoundError("settings.toml")

    with pytest.raises(FileNotFoundError):
        AuthJWT.load_config(fail)


def test_a_lifetime_is_a_number() -> None:
    """A text of digits was taken for seconds by pydantic 1, and for something else by others."""
    with pytest.raises(ValidationError, match="authjwt_access_token_expires"):
        configure(authjwt_access_token_expires="900")


def test_private_attributes_configure_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide would be silent about what tests of a program may have set."""
    monkeypatch.setattr(AuthJWT, "_denylist_enabled", False, raising=False)
    assert told(client, with_claims(SECRET, jti="denied")) == (401, "Token has been revoked")


def test_cookies_are_deleted_as_they_were_set() -> None:
    """A browser keeps a Secure cookie that is to be deleted by one that is not."""
    configure(
        authjwt_token_location=["cookies"],
        authjwt_cookie_secure=True,
        authjwt_cookie_samesite="none",
        authjwt_cookie_domain="example.com",
    )
    response = Response()
    AuthJWT().unset_jwt_cookies(response)
    cookies = response.headers.getlist("set-cookie")
    assert len(cookies) == 4
    for cookie in cookies:
        for attribute in ("Secure", "SameSite=none", "Domain=example.com", "Max-Age=0"):
            assert attribute in cookie


@pytest.mark.parametrize("path", ["/required", "/async"])
def test_an_async_loader_is_awaited(client: TestClient, path: str) -> None:
    """Every token was refused, because a coroutine is true; or none, had it been a failure."""

    @AuthJWT.token_in_denylist_loader
    async def is_denied(claims: dict[str, Any]) -> bool:
        return bool(claims["jti"] == "denied")

    assert told(client, with_claims(SECRET), path)[0] == 200
    assert told(client, with_claims(SECRET, jti="denied"), path) == (401, "Token has been revoked")


# With a bus


def with_bus(bus: RevokeBus) -> AuthJWT:
    app = FastAPI()
    app.state = State({"revokebus": bus})
    return AuthJWT(Request({"type": "http", "headers": [], "app": app}))


@pytest.fixture
async def bus(make_settings: MakeSettings) -> Any:
    async with RevokeBus(make_settings()) as bus:
        yield bus


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": ...},
        {"exp": int(time.time()) + 366 * 86_400},
        {"exp": 10**400},
        {"exp": "9e9"},
        {"iat": "1"},
        {"iat": ...},
    ],
)
def test_a_token_outlives_no_revocation(bus: RevokeBus, claims: dict[str, Any]) -> None:
    """A revoked token would work again once the record has expired."""
    token = with_claims(SECRET, **claims)
    with pytest.raises(JWTDecodeError) as caught:
        with_bus(bus).jwt_required("websocket", token=token)
    assert caught.value.message in ("Token lives longer than a revocation", "Invalid token")
    with_bus(bus).jwt_required("websocket", token=with_claims(SECRET))
    AuthJWT.seen = None  # and without a bus
    AuthJWT().jwt_required("websocket", token=with_claims(SECRET, exp=...))


@pytest.mark.parametrize(("policy", "accepts"), [("reject", False), ("accept", True)])
async def test_a_copy_that_is_too_old_lets_nobody_in(
    make_settings: MakeSettings, policy: OnStale, *, accepts: bool
) -> None:
    """A revoked token would be accepted for as long as Redis is away."""
    clock = ManualClock()
    settings = make_settings("redis://127.0.0.1:1/0", on_stale=policy, startup_timeout=0.2)
    async with RevokeBus(settings, clock=clock) as bus:
        auth = with_bus(bus)
        token = with_claims(SECRET)
        with pytest.raises(DenylistUnavailableError) as caught:  # it was never loaded
            auth.jwt_required("websocket", token=token)
        assert caught.value.status_code == 503
        bus._backend._freshness.proven_at = clock.elapsed()  # type: ignore[attr-defined]  # as a tick does
        auth.jwt_required("websocket", token=token)
        clock.advance(settings.max_staleness + 1)
        if accepts:
            auth.jwt_required("websocket", token=token)
        else:
            with pytest.raises(DenylistUnavailableError):
                auth.jwt_required("websocket", token=token)
    with pytest.raises(DenylistUnavailableError):  # it has ended
        auth.jwt_required("websocket", token=token)


async def test_the_loader_is_not_needed_with_a_bus(bus: RevokeBus) -> None:
    """The last step of a move would be refused: there is nothing left to ask but the bus."""
    AuthJWT.loader = None
    auth = with_bus(bus)
    token = auth.create_access_token("test")
    auth.jwt_required("websocket", token=token)
    await bus.revoke_claim("jti", auth.get_jti(token))
    with pytest.raises(AuthJWTException, match="revoked"):
        auth.jwt_required("websocket", token=token)


def request() -> Request:
    return Request({"type": "http", "headers": []})


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, SECRET, algorithms=["HS256"], options={"verify_sub": False}
    )
    return claims


def test_tokens_of_one_sign_in_are_a_session() -> None:
    """One of them could be revoked, and the other would buy new ones."""
    auth = AuthJWT(request())
    access, refresh = auth.create_access_token("a"), auth.create_refresh_token("a")
    first = claims_of(access)
    assert first["sid"] == claims_of(refresh)["sid"]
    assert first["auth_time"] == claims_of(refresh)["auth_time"]
    later = AuthJWT(request())
    later.jwt_refresh_token_required("websocket", token=refresh)
    renewed = claims_of(later.create_access_token("a"))
    assert (renewed["sid"], renewed["auth_time"]) == (first["sid"], first["auth_time"])
    # Somebody else's, and one that the program makes without a request, are other sessions.
    assert claims_of(later.create_access_token("b"))["sid"] != first["sid"]
    own = AuthJWT()
    made = {claims_of(own.create_access_token(name))["sid"] for name in ("a", "b", "a")}
    assert len(made) == 3
    # A new sign-in is a new session, also where the old token was looked at.
    again = AuthJWT(request())
    again.jwt_optional("websocket", token=access)
    assert claims_of(again.create_access_token("a"))["sid"] != first["sid"]


def test_a_refresh_token_has_the_issuer_too() -> None:
    """A guard that demands it would refuse the token, and sign everybody out."""
    configure(authjwt_encode_issuer="urn:me")
    assert claims_of(AuthJWT().create_refresh_token("a"))["iss"] == "urn:me"


@pytest.mark.parametrize("token", [5, b"a.b.c", ["a"], {"a": 1}, True])
def test_what_is_no_text_is_no_token(token: Any) -> None:
    """Whatever a WebSocket sends as JSON could be a 500, as could a CSRF value."""
    with pytest.raises(InvalidHeaderError):
        AuthJWT().jwt_required("websocket", token=token)
    configure(authjwt_token_location=["cookies"])
    good = AuthJWT().create_access_token("test")
    scope = {"type": "websocket", "headers": [(b"cookie", f"access_token_cookie={good}".encode())]}
    socket = WebSocket(scope, receive=None, send=None)  # type: ignore[arg-type]  # it is not used
    for value in (token, "\ud800"):
        with pytest.raises(CSRFError):
            AuthJWT().jwt_required("websocket", websocket=socket, csrf_token=value)


def test_a_subclass_has_its_own_loader() -> None:
    """The loader of another one would decide."""

    class Admin(AuthJWT):
        pass

    asked = []

    @AuthJWT.token_in_denylist_loader
    async def of_all(_: dict[str, Any]) -> bool:
        return False

    @Admin.token_in_denylist_loader
    def of_admins(claims: dict[str, Any]) -> bool:
        asked.append(claims["jti"])
        return True

    app = FastAPI()

    @app.get("/admin")
    async def admin(auth: Any = Depends(Admin)) -> None:  # noqa: B008 - as their programs do
        with pytest.raises(AuthJWTException, match="revoked"):
            auth.jwt_required()

    token = with_claims(SECRET)
    answer = TestClient(app).get("/admin", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, asked) == (200, ["j"])


def test_what_a_loader_has_said_does_not_last(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that checks again would go on by what was said when it began."""

    @AuthJWT.token_in_denylist_loader
    async def is_denied(_: dict[str, Any]) -> bool:
        return False

    configure(authjwt_denylist_enabled=True)
    asked = Registered(is_denied)
    verdict = Verdict(asked, said_at=time.monotonic() - 4)
    assert verdict.is_of(asked)
    assert not Verdict(asked, said_at=time.monotonic() - 6).is_of(asked)
    monkeypatch.setattr("revokebus.compat.fastapi_jwt_auth.denylist._VERDICT_SECONDS", 0)
    with pytest.raises(RuntimeError, match="ask_denylist"):
        told(client, with_claims(SECRET), "/async")


# More of the bus


async def test_every_instance_has_the_bus(bus: RevokeBus) -> None:
    """A mounted application, or what the program makes itself, would accept what is revoked."""
    AuthJWT.loader = None
    auth = with_bus(bus)
    token = auth.create_access_token("test")
    await bus.revoke_claim("jti", auth.get_jti(token))
    mounted = Request({"type": "http", "headers": [], "app": FastAPI()})
    for other in (AuthJWT(), AuthJWT(mounted)):
        with pytest.raises(AuthJWTException, match="revoked"):
            other.jwt_required("websocket", token=token)


def test_a_longer_leeway_than_the_bus_has_is_an_error(bus: RevokeBus) -> None:
    """A revoked token would be accepted again for the difference."""
    for leeway in (60, timedelta(seconds=60)):
        configure(authjwt_decode_leeway=leeway)
        with pytest.raises(RuntimeError, match="REVOKEBUS_LEEWAY"):
            with_bus(bus).jwt_required("websocket", token=with_claims(SECRET))


@pytest.mark.parametrize("subject", [7, "7"])
async def test_a_subject_is_revoked_as_number_and_as_text(
    bus: RevokeBus, subject: int | str
) -> None:
    """A command line, which has texts only, would report success and revoke nothing."""
    token = with_bus(bus).create_access_token(subject)
    await bus.revoke_subject("7")
    with pytest.raises(AuthJWTException, match="revoked"):
        with_bus(bus).jwt_required("websocket", token=token)


PROFILE = {"rfc9068": True, "issuer": "https://me.example", "audience": "api"}


@pytest.mark.parametrize("settings", [{}, {"leeway": 2.0}, PROFILE])
async def test_a_sign_in_after_a_cut_off_works(
    make_settings: MakeSettings, settings: dict[str, Any]
) -> None:
    """After "sign out everywhere" nobody could sign in for a moment, and not notice."""
    async with RevokeBus(make_settings(**settings)) as bus:
        old = with_bus(bus).create_access_token("test")
        await bus.revoke_subject("test")
        with pytest.raises(AuthJWTException, match="revoked"):
            with_bus(bus).jwt_required("websocket", token=old)
        new = with_bus(bus).create_access_token("test")
        with_bus(bus).jwt_required("websocket", token=new)


async def test_a_session_does_not_outlive_a_cut_off_by_refreshing(bus: RevokeBus) -> None:
    """A thief would refresh, and be spared by a cut-off at the moment before."""
    signed_in = with_bus(bus)
    refresh = signed_in.create_refresh_token("test")
    while (moment := time.time()) <= claims_of(refresh)["auth_time"]:
        pass
    later = with_bus(bus)
    later.jwt_refresh_token_required("websocket", token=refresh)
    access = later.create_access_token("test")
    await bus.revoke_subject("test", issued_before=moment)
    with pytest.raises(AuthJWTException, match="revoked"):
        with_bus(bus).jwt_required("websocket", token=access)


@pytest.mark.parametrize("policy", ["reject", "accept", "ask_redis"])
async def test_a_copy_without_room_lets_nobody_in(
    make_settings: MakeSettings, policy: OnStale
) -> None:
    """What the copy had no room for would be accepted; a guard asks Redis instead."""
    settings = make_settings("redis://127.0.0.1:1/0", on_stale=policy, startup_timeout=0.2)
    async with RevokeBus(settings, clock=ManualClock()) as bus:
        bus._backend._freshness.proven_at = bus._clock.elapsed()  # type: ignore[attr-defined]  # as a tick does
        bus._denylist.complete = False
        with pytest.raises(DenylistUnavailableError):
            with_bus(bus).jwt_required("websocket", token=with_claims(SECRET))


async def test_a_bus_that_checks_nothing_replaces_no_loader(make_settings: MakeSettings) -> None:
    """The setting says that tokens can be revoked, and none could."""
    AuthJWT.loader = None
    async with RevokeBus(make_settings(denylist_enabled=False)) as bus:
        with pytest.raises(RuntimeError, match="@AuthJWT"):
            with_bus(bus).jwt_required("websocket", token=with_claims(SECRET))


async def test_the_bus_decides_which_types_it_checks(bus: RevokeBus) -> None:
    """A setting for the loader would keep refresh tokens from being revoked."""
    configure(authjwt_denylist_token_checks=["access"])
    refresh = with_bus(bus).create_refresh_token("test")
    await bus.revoke_subject("test")
    with pytest.raises(AuthJWTException, match="revoked"):
        with_bus(bus).jwt_refresh_token_required("websocket", token=refresh)


async def test_predicates_are_asked_by_guards_only(bus: RevokeBus) -> None:
    """The guide would promise too much: `jwt_required` cannot wait for them."""

    @bus.deny_if
    async def always(_: object) -> bool:
        return True

    with_bus(bus).jwt_required("websocket", token=with_claims(SECRET))
    with pytest.raises(RevokeBusError):
        await bus.authenticate(with_claims(SECRET), AccessToken)
