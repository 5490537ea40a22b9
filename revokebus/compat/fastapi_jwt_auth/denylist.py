"""Whether a token was revoked: by the bus of the application, and by the program's own loader.

The bus decides in memory. The loader is whatever the program has registered. It may be async; then
FastAPI asks it before the route's function runs, because `AuthJWT.jwt_required` cannot wait.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anyio import from_thread

from revokebus import RevokeBus
from revokebus.compat.fastapi_jwt_auth.codec import moment, text_claim
from revokebus.compat.fastapi_jwt_auth.exceptions import (
    DenylistUnavailableError,
    JWTDecodeError,
    RevokedTokenError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from starlette.requests import HTTPConnection

    from revokebus.compat.fastapi_jwt_auth.config import Config

    Claims = dict[str, Any]
    Loader = Callable[[Claims], object]

_UNAUTHORIZED, _UNPROCESSABLE, _UNAVAILABLE = 401, 422, 503
_VERDICT_SECONDS = 5.0


def bus_of(connection: HTTPConnection | None) -> RevokeBus | None:
    """Return the bus that is attached to the application of a request, if there is one."""
    app = connection.scope.get("app") if connection is not None else None
    bus = getattr(app.state, "revokebus", None) if app is not None else None
    return bus if isinstance(bus, RevokeBus) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an async loader has said of a token, or how it failed.

    Attributes:
        loader: Which loader.
        is_revoked: What it said.
        error: How it failed, or why it was not asked.
        said_at: When, in seconds of a clock that is never set.
    """

    loader: Registered
    is_revoked: bool = False
    error: Exception | None = None
    said_at: float = field(default_factory=time.monotonic)

    def is_of(self, loader: Registered) -> bool:
        """Return whether it was said by that loader, and not long ago."""
        return loader == self.loader and time.monotonic() - self.said_at < _VERDICT_SECONDS

    def value(self) -> bool:
        """Return what it has said, or raise what it has raised."""
        if self.error is not None:
            raise self.error
        return self.is_revoked


@dataclass(frozen=True, slots=True)
class Registered:
    """A program's loader.

    Attributes:
        loader: What was registered: it is given claims, and returns whether they are revoked.
    """

    loader: Loader

    @property
    def is_async(self) -> bool:
        """Whether what it returns has to be awaited."""
        call = getattr(self.loader, "__call__", None)  # noqa: B004 - of an object
        return inspect.iscoroutinefunction(self.loader) or inspect.iscoroutinefunction(call)

    async def ask(self, claims: Claims) -> Verdict:
        """Return what it says; its failure is kept for whoever needs the answer."""
        try:
            answer = self.loader(claims)
            if inspect.isawaitable(answer):
                answer = await answer
            return Verdict(self, bool(answer))
        except Exception as error:  # noqa: BLE001 - a route that needs no token does not need it
            return Verdict(self, error=error)

    def ask_now(self, claims: Claims) -> bool:
        """Return what it says, without waiting on an event loop.

        Raises:
            RuntimeError: It is async, and this is its event loop.
        """
        if not self.is_async:
            return bool(self.loader(claims))
        try:
            verdict = from_thread.run(self.ask, claims)
        except RuntimeError:
            raise RuntimeError(
                "the token_in_denylist_loader is async: call `await Authorize.ask_denylist(token)` "
                "first, with the token that is checked next"
            ) from None
        return verdict.value()


def checked_types(bus: RevokeBus) -> Set[str]:
    """Return the types of token whose revocation the bus checks."""
    return bus.settings.checked_token_types if bus.settings.denylist_enabled else frozenset()


def check_by_bus(bus: RevokeBus, config: Config, claims: Mapping[str, Any]) -> None:
    """Check that the bus knows, and that it does not refuse the token. No network.

    Raises:
        RevokedTokenError: It refuses the token.
        JWTDecodeError: Its revocation could be forgotten before it expires.
        DenylistUnavailableError: The copy does not decide at this moment.
        RuntimeError: Tokens are accepted for longer than the bus remembers revocations.
    """
    text_claim(claims, "jti")
    if _is_refused(bus, claims):
        raise RevokedTokenError(_UNAUTHORIZED, "Token has been revoked")
    _require_end(claims, bus.settings.longest_life)
    leeway = config.authjwt_decode_leeway
    if (leeway.total_seconds() if isinstance(leeway, timedelta) else leeway) > bus.settings.leeway:
        raise RuntimeError(
            "authjwt_decode_leeway is longer than leeway (REVOKEBUS_LEEWAY), so a revocation could "
            "be forgotten while its token is still accepted: give both the same"
        )
    status = bus.status()
    if status.state == "fresh" and status.complete:
        return
    if status.state != "stale" or bus.settings.on_stale != "accept":
        raise DenylistUnavailableError(_UNAVAILABLE, "Revocations cannot be checked at the moment")


def _is_refused(bus: RevokeBus, claims: Mapping[str, Any]) -> bool:
    if bus.is_revoked(claims):
        return True
    subject = claims.get("sub")  # which a command line can name as a text only
    return type(subject) is int and bus.is_revoked({**claims, "sub": str(subject)})


def _require_end(claims: Mapping[str, Any], longest_life: float) -> None:
    issued, expires = moment(claims.get("iat")), moment(claims.get("exp"))
    if issued is None or expires is None or not expires - issued <= longest_life:
        raise JWTDecodeError(_UNPROCESSABLE, "Token lives longer than a revocation")


def require_loader(
    config: Config, loader: Registered | None, bus: RevokeBus | None
) -> Registered | None:
    """Return the loader to ask; None where none is to be asked.

    Raises:
        RuntimeError: ``authjwt_denylist_enabled`` is on, and nothing would be asked.
    """
    if not config.authjwt_denylist_enabled:
        return None
    if loader is None and (bus is None or not bus.settings.denylist_enabled):
        raise RuntimeError(
            "A token_in_denylist_callback must be provided via the "
            "'@AuthJWT.token_in_denylist_loader' if authjwt_denylist_enabled is 'True'"
        )
    return loader
