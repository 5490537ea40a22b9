"""`AuthJWT`: the dependency that makes tokens and checks them."""

# Without `from __future__ import annotations`: FastAPI reads those of `AuthJWT`.

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from weakref import ReferenceType, ref

from fastapi import Depends
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from revokebus import RevokeBus
from revokebus.compat.fastapi_jwt_auth import codec
from revokebus.compat.fastapi_jwt_auth.config import Config, Life, TokenType, read_config
from revokebus.compat.fastapi_jwt_auth.cookies import (
    check_csrf,
    csrf_value,
    set_cookies,
    unset_cookies,
)
from revokebus.compat.fastapi_jwt_auth.denylist import (
    Registered,
    Verdict,
    bus_of,
    check_by_bus,
    checked_types,
    require_loader,
)
from revokebus.compat.fastapi_jwt_auth.exceptions import (
    AccessTokenRequired,
    AuthJWTException,
    FreshTokenRequired,
    InvalidHeaderError,
    MissingTokenError,
    RefreshTokenRequired,
    RevokedTokenError,
)
from revokebus.compat.fastapi_jwt_auth.sessions import Session, new_session, session_of

SettingsLoader = TypeVar("SettingsLoader", bound=Callable[[], object])
AnyLoader = TypeVar("AnyLoader", bound=Callable[[dict[str, Any]], object])
Audience = str | list[str] | tuple[str, ...] | set[str] | frozenset[str]
AuthFrom = Literal["request", "websocket"]

_UNAUTHORIZED, _UNPROCESSABLE, _POLICY_VIOLATION = 401, 422, 1008
_WRONG_TYPE: dict[TokenType, type[AuthJWTException]] = {
    "access": AccessTokenRequired,
    "refresh": RefreshTokenRequired,
}


def _header_token(config: Config, request: Request) -> str | None:
    """Return the token in the header of a request, None without one.

    Raises:
        InvalidHeaderError: There is something else in it.
    """
    name, kind = config.authjwt_header_name, config.authjwt_header_type
    value = request.headers.get(name)
    if not value:
        return None
    *words, token = value.split() or [""]
    if words == ([kind] if kind else []) and token:
        return token
    expected = f"{kind} <JWT>" if kind else "<JWT>"
    raise InvalidHeaderError(_UNPROCESSABLE, f"Bad {name} header. Expected value '{expected}'")


async def _verdict_on(config: Config, loader: Registered, token: str) -> Verdict | None:
    """Return what `loader` says of a token; None where it is not to be asked about it."""
    try:
        claims = codec.verify(config, token)
        if codec.text_claim(claims, "type") not in config.authjwt_denylist_token_checks:
            return None
        codec.text_claim(claims, "jti")
    except (AuthJWTException, RuntimeError) as error:
        # Where it is checked it may have become good, and must not be taken for asked about.
        return Verdict(loader, error=error)
    return await loader.ask(claims)


async def _verdicts(connection: HTTPConnection) -> dict[str, Verdict]:
    """Return what an async loader says of each token that came with a request."""
    config, loader = AuthJWT.config, AuthJWT.loader
    if not isinstance(connection, Request) or not config.authjwt_denylist_enabled:
        return {}
    if loader is None or not loader.is_async:
        return {}
    tokens: list[str | None] = []
    if "headers" in config.authjwt_token_location:
        with contextlib.suppress(InvalidHeaderError):
            tokens.append(_header_token(config, connection))
    if "cookies" in config.authjwt_token_location:
        tokens.append(connection.cookies.get(config.authjwt_access_cookie_key))
        tokens.append(connection.cookies.get(config.authjwt_refresh_cookie_key))
    verdicts = {}
    for token in filter(None, tokens):
        if (verdict := await _verdict_on(config, loader, token)) is not None:
            verdicts[token] = verdict
    return verdicts


class AuthJWT:
    """Makes tokens, and checks the one of a request; a FastAPI dependency (``Depends()``).

    The configuration and the loader belong to the class, as fastapi-jwt-auth has it.

    Args:
        req: The request, or the WebSocket.
        res: The answer, for cookies.
        verdicts: What an async loader says of the request's tokens.

    Attributes:
        config: What `load_config` has read.
        loader: What `token_in_denylist_loader` has registered.
        seen: The bus that was met last. Like the two before it is for every `AuthJWT`: also for one
            in a mounted application, or that the program itself has made.

    Raises:
        InvalidHeaderError: The header of the token holds something else.
    """

    config: ClassVar[Config] = Config()
    loader: ClassVar[Registered | None] = None
    seen: ClassVar[ReferenceType[RevokeBus] | None] = None

    def __init__(
        self,
        req: HTTPConnection = None,  # type: ignore[assignment]  # FastAPI knows no optional one
        res: Response = None,  # type: ignore[assignment]  # likewise
        verdicts: Annotated[dict[str, Verdict] | None, Depends(_verdicts)] = None,
    ) -> None:
        self._connection: HTTPConnection | None = req
        self._response: Response | None = res
        self._verdicts = dict(verdicts or {})
        self._bus = self._find_bus(req)
        self._sessions: dict[str | int, Session] = {}
        self._in_header: str | None = None
        if isinstance(req, Request) and "headers" in self.config.authjwt_token_location:
            self._in_header = _header_token(self.config, req)
        self._token = self._in_header

    @staticmethod
    def _find_bus(connection: HTTPConnection | None) -> RevokeBus | None:
        if (bus := bus_of(connection)) is not None:
            AuthJWT.seen = ref(bus)
            return bus
        bus = AuthJWT.seen() if AuthJWT.seen is not None else None
        return bus if bus is not None and bus.status().state != "closed" else None

    # Set up

    @classmethod
    def load_config(cls, settings: SettingsLoader) -> SettingsLoader:
        """Read the configuration from what `settings` returns; a decorator.

        Args:
            settings: Returns a pydantic model, of pydantic-settings too, or names and values in
                pairs. See `Config` for the names.

        Raises:
            TypeError: It returns something else.
            pydantic.ValidationError: A setting is wrong.
        """
        cls.config = read_config(settings())
        return settings

    @classmethod
    def token_in_denylist_loader(cls, loader: AnyLoader) -> AnyLoader:
        """Ask `loader` about each token of a type that can be revoked; a decorator.

        Args:
            loader: Is given the claims, and returns whether the token was revoked. It may be
                async; see `ask_denylist` for WebSockets.
        """
        cls.loader = Registered(loader)
        return loader

    # Check

    def jwt_required(
        self,
        auth_from: AuthFrom = "request",
        token: str | None = None,
        websocket: WebSocket | None = None,
        csrf_token: str | None = None,
    ) -> None:
        """Check that there is an access token, and that it is good.

        Args:
            auth_from: Whether a request or a WebSocket is checked.
            token: The token of a WebSocket that does not send it in a cookie.
            websocket: The WebSocket that does.
            csrf_token: Its CSRF value; a WebSocket cannot send it in a header.

        Raises:
            AuthJWTException: There is none, or it is not good.
            ValueError: `auth_from` is something else.
        """
        self._check("access", auth_from, token, websocket, csrf_token)

    def jwt_optional(
        self,
        auth_from: AuthFrom = "request",
        token: str | None = None,
        websocket: WebSocket | None = None,
        csrf_token: str | None = None,
    ) -> None:
        """Check that the access token is good, if there is one; see `jwt_required`."""
        self._check("access", auth_from, token, websocket, csrf_token, is_optional=True)

    def jwt_refresh_token_required(
        self,
        auth_from: AuthFrom = "request",
        token: str | None = None,
        websocket: WebSocket | None = None,
        csrf_token: str | None = None,
    ) -> None:
        """Check that there is a refresh token, and that it is good; see `jwt_required`."""
        self._check("refresh", auth_from, token, websocket, csrf_token)

    def fresh_jwt_required(
        self,
        auth_from: AuthFrom = "request",
        token: str | None = None,
        websocket: WebSocket | None = None,
        csrf_token: str | None = None,
    ) -> None:
        """Check that there is a fresh access token, and that it is good; see `jwt_required`."""
        self._check("access", auth_from, token, websocket, csrf_token, is_fresh=True)

    async def ask_denylist(self, token: str) -> None:
        """Ask an async loader about `token`, which the next check of it then goes by.

        For WebSockets, and for tokens that do not come in the request's header or cookie; the
        others are asked about before the route's function runs.
        """
        loader = require_loader(self.config, self.loader, self._bus)
        if loader is not None:
            verdict = await _verdict_on(self.config, loader, token)
            if verdict is not None:
                self._verdicts[token] = verdict

    def _check(
        self,
        token_type: TokenType,
        auth_from: AuthFrom,
        token: str | None,
        websocket: WebSocket | None,
        csrf_token: str | None,
        *,
        is_fresh: bool = False,
        is_optional: bool = False,
    ) -> None:
        csrf = None
        if auth_from == "websocket" and websocket is None:
            missing = f"Missing {token_type} token from Query or Path"
            status = _POLICY_VIOLATION
        elif auth_from == "request" and self._is_in_header():
            token, status = self._in_header, _UNAUTHORIZED
            missing = f"Missing {self.config.authjwt_header_name} Header"
        elif auth_from in ("request", "websocket"):
            connection = self._connection if auth_from == "request" else websocket
            if not isinstance(connection, Request | WebSocket):
                raise TypeError("request must be an instance of 'Request' or 'WebSocket'")
            name = self.config.of(token_type, "cookie_key")
            token, status = connection.cookies.get(name), _UNAUTHORIZED
            missing = f"Missing cookie {name}"
            if token:
                csrf = csrf_value(self.config, token_type, connection, csrf_token)
            self._token = token
        else:
            raise ValueError("auth_from must be between 'request', 'websocket'")
        if token:
            self._check_token(token, token_type, csrf, is_fresh=is_fresh)
        elif not is_optional:
            raise MissingTokenError(status, missing)

    def _is_in_header(self) -> bool:
        return bool(self._in_header) or "cookies" not in self.config.authjwt_token_location

    def _check_token(
        self, token: str, token_type: TokenType, csrf: str | None, *, is_fresh: bool
    ) -> None:
        # Only access tokens have an issuer.
        issuer = self.config.authjwt_decode_issuer if token_type == "access" else None  # noqa: S105 - a type
        claims = codec.verify(self.config, token, issuer)
        found = codec.text_claim(claims, "type")
        bus = self._bus
        if bus is not None and found in checked_types(bus):
            check_by_bus(bus, self.config, claims)
        if found in self.config.authjwt_denylist_token_checks:
            self._ask_loader(token, claims)
        if found != token_type:
            message = f"Only {token_type} tokens are allowed"
            raise _WRONG_TYPE[token_type](_UNPROCESSABLE, message)
        if is_fresh and claims.get("fresh") is not True:
            raise FreshTokenRequired(_UNAUTHORIZED, "Fresh token required")
        if csrf is not None:
            check_csrf(claims, csrf)
        subject = claims.get("sub")
        if token_type == "refresh" and isinstance(subject, str | int):  # noqa: S105 - a type
            self._sessions[subject] = session_of(claims)  # which a token for him now belongs to

    def _ask_loader(self, token: str, claims: dict[str, Any]) -> None:
        loader = require_loader(self.config, self.loader, self._bus)
        if loader is None:
            return
        codec.text_claim(claims, "jti")
        verdict = self._verdicts.get(token)
        if not isinstance(self._connection, Request):
            self._verdicts.pop(token, None)  # a WebSocket lasts, and what was said does not
        is_said = verdict is not None and verdict.is_of(loader)
        if verdict.value() if verdict and is_said else loader.ask_now(claims):
            raise RevokedTokenError(_UNAUTHORIZED, "Token has been revoked")

    # Make

    def create_access_token(
        self,
        subject: str | int,
        fresh: bool = False,  # noqa: FBT001, FBT002 - their signature
        algorithm: str | None = None,
        headers: Mapping[str, Any] | None = None,
        expires_time: Life | None = None,
        audience: Audience | None = None,
        user_claims: dict[str, Any] | None = None,
    ) -> str:
        """Return a new access token.

        Args:
            subject: The ``sub`` claim.
            fresh: Whether the owner has just proven who he is.
            algorithm: What it is signed with; the setting by default.
            headers: More parameters for its header.
            expires_time: For how many seconds it is valid, or False for one that does not expire;
                the setting by default.
            audience: The ``aud`` claim.
            user_claims: More claims.

        Raises:
            TypeError: An argument is of another type.
            ValueError: There is no such algorithm.
            RuntimeError: The key for the algorithm is not set.
        """
        if not isinstance(fresh, bool):
            raise TypeError("fresh must be a boolean")
        own: dict[str, Any] = {"type": "access", "fresh": fresh}
        return self._create(own, subject, algorithm, headers, expires_time, audience, user_claims)

    def create_refresh_token(
        self,
        subject: str | int,
        algorithm: str | None = None,
        headers: Mapping[str, Any] | None = None,
        expires_time: Life | None = None,
        audience: Audience | None = None,
        user_claims: dict[str, Any] | None = None,
    ) -> str:
        """Return a new refresh token; see `create_access_token`."""
        own: dict[str, Any] = {"type": "refresh"}
        return self._create(own, subject, algorithm, headers, expires_time, audience, user_claims)

    def _create(
        self,
        own: dict[str, Any],
        subject: str | int,
        algorithm: str | None,
        headers: Mapping[str, Any] | None,
        expires_time: Life | None,
        audience: Audience | None,
        user_claims: dict[str, Any] | None,
    ) -> str:
        _check_types(subject, algorithm, audience, user_claims)
        now, expires_at = int(time.time()), codec.expiry(self.config, own["type"], expires_time)
        claims = {"sub": subject, "iat": now, "nbf": now, "jti": codec.new_id(), **own}
        session = self._session_for(subject)
        claims |= {"sid": session.session_id, "auth_time": session.began}
        if self.config.authjwt_encode_issuer:
            claims["iss"] = self.config.authjwt_encode_issuer
        if expires_at is not None:
            claims["exp"] = expires_at
        if audience:
            claims["aud"] = audience if isinstance(audience, str) else list(audience)
        if self._uses_csrf():
            claims["csrf"] = codec.new_id()
        return codec.sign(self.config, {**claims, **(user_claims or {})}, algorithm, headers)

    def _session_for(self, subject: str | int) -> Session:
        session = self._sessions.get(subject) or new_session(self._bus)
        if self._connection is not None:  # another token of this request belongs to it
            self._sessions[subject] = session
        return session

    def _uses_csrf(self) -> bool:
        in_cookies = "cookies" in self.config.authjwt_token_location
        return in_cookies and self.config.authjwt_cookie_csrf_protect

    # Cookies

    def set_access_cookies(
        self,
        encoded_access_token: str,
        response: Response | None = None,
        max_age: int | None = None,
    ) -> None:
        """Put an access token, and its CSRF value, into cookies.

        Args:
            encoded_access_token: The token.
            response: The answer that sets them; the dependency's by default.
            max_age: For how many seconds they are kept; the setting by default.

        Raises:
            RuntimeWarning: ``authjwt_token_location`` is without ``cookies``.
            TypeError: An argument is of another type.
        """
        response = self._answer("set_access_cookies", response)
        set_cookies(self.config, "access", response, encoded_access_token, _seconds(max_age))

    def set_refresh_cookies(
        self,
        encoded_refresh_token: str,
        response: Response | None = None,
        max_age: int | None = None,
    ) -> None:
        """Put a refresh token, and its CSRF value, into cookies; see `set_access_cookies`."""
        response = self._answer("set_refresh_cookies", response)
        set_cookies(self.config, "refresh", response, encoded_refresh_token, _seconds(max_age))

    def unset_jwt_cookies(self, response: Response | None = None) -> None:
        """Have the browser forget both tokens, and their CSRF values."""
        self.unset_access_cookies(response)
        self.unset_refresh_cookies(response)

    def unset_access_cookies(self, response: Response | None = None) -> None:
        """Have the browser forget the access token, and its CSRF value."""
        unset_cookies(self.config, "access", self._answer("unset_access_cookies", response))

    def unset_refresh_cookies(self, response: Response | None = None) -> None:
        """Have the browser forget the refresh token, and its CSRF value."""
        unset_cookies(self.config, "refresh", self._answer("unset_refresh_cookies", response))

    def _answer(self, method: str, response: Response | None) -> Response:
        if "cookies" not in self.config.authjwt_token_location:
            raise RuntimeWarning(
                f"{method}() called without 'authjwt_token_location' configured to use cookies"
            )
        response = self._response if response is None else response
        if not isinstance(response, Response):
            raise TypeError("The response must be an object response FastAPI")
        return response

    # Look

    def get_raw_jwt(self, encoded_token: str | None = None) -> dict[str, Any] | None:
        """Return the claims of a token, by default of the request's; None without one.

        It is verified. Whether it was revoked is for the checks above.

        Raises:
            AuthJWTException: It is not good.
        """
        token = encoded_token or self._token
        return codec.verify(self.config, token) if token else None

    def get_jti(self, encoded_token: str) -> str:
        """Return the ``jti`` of a token, which is verified."""
        return codec.text_claim(codec.verify(self.config, encoded_token), "jti")

    def get_jwt_subject(self) -> str | int | None:
        """Return the ``sub`` of the request's token, which is verified; None without one."""
        if not self._token:
            return None
        subject = codec.verify(self.config, self._token).get("sub")
        return subject if isinstance(subject, int) else codec.text_claim({"sub": subject}, "sub")

    def get_unverified_jwt_headers(self, encoded_token: str | None = None) -> dict[str, Any]:
        """Return the header of a token, by default of the request's; whoever has made it."""
        token = encoded_token or self._token
        if not token:
            name = self.config.authjwt_header_name
            raise MissingTokenError(_UNAUTHORIZED, f"Missing {name} Header")
        return codec.unverified_header(token)


def _check_types(subject: object, algorithm: object, audience: object, user_claims: object) -> None:
    if not isinstance(subject, str | int):
        raise TypeError("subject must be a string or integer")
    if algorithm and not isinstance(algorithm, str):
        raise TypeError("algorithm must be a string")
    if audience and not isinstance(audience, str | list | tuple | set | frozenset):
        raise TypeError("audience must be a string or sequence")
    if user_claims and not isinstance(user_claims, dict):
        raise TypeError("user_claims must be a dictionary")


def _seconds(max_age: int | None) -> int | None:
    if max_age and not isinstance(max_age, int):
        raise TypeError("max_age must be a integer")
    return max_age
