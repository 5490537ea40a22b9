"""Decides whether a token may be used: genuine, not revoked, and known to be so."""

from __future__ import annotations

import logging
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from revokebus.denylist.denylist import Probe
from revokebus.engine.predicates import Predicates
from revokebus.errors import (
    ExpiredTokenError,
    InvalidTokenError,
    KeysUnavailableError,
    NotReadyError,
    PredicateError,
    RevokeBusError,
    RevokedTokenError,
    StaleError,
    StoreError,
    UnavailableError,
    WrongTypeError,
)
from revokebus.keys.remote_key_set import UnknownKeyError
from revokebus.protocol.revocation import MOST_TARGETS, targets_of
from revokebus.settings.settings import check_on_stale
from revokebus.telemetry.events import event
from revokebus.tokens.claims import AccessToken, AnyToken, RefreshToken, began

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from revokebus.engine.parts import Parts
    from revokebus.engine.predicates import Predicate
    from revokebus.protocol.revocation import Target
    from revokebus.settings.settings import OnStale
    from revokebus.tokens.verified_cache import Verified

logger = logging.getLogger("revokebus")

_OUTCOMES: Final[Mapping[type[RevokeBusError], str]] = MappingProxyType(
    {
        ExpiredTokenError: "expired",
        RevokedTokenError: "revoked",
        WrongTypeError: "wrong_type",
        StaleError: "stale",
        NotReadyError: "not_ready",
        PredicateError: "predicate_failed",
        KeysUnavailableError: "keys_unavailable",
    }
)
"""How a check that ends with an error is counted; ``invalid`` otherwise."""

_LOG_AGAIN_SECONDS = 10.0


class Checker:
    """Asks the verifier, then the copy, then the application's predicates.

    Args:
        parts: The verifier, the copy, and the policy for a copy that is too old.

    Attributes:
        predicates: The application's own checks.
    """

    def __init__(self, parts: Parts) -> None:
        self._settings = settings = parts.settings
        self._clock = parts.clock
        self._lifecycle = parts.lifecycle
        self._verifier = parts.verifier
        self._counters = parts.counters
        self._denylist = parts.denylist
        self._freshness = parts.freshness
        self._backend = parts.backend
        self.predicates = Predicates()
        self._logged_stale_at = -math.inf
        self._checked = settings.checked_token_types if settings.denylist_enabled else frozenset()

    def is_revoked(self, claims: Mapping[str, object]) -> bool:
        """Return whether the copy refuses a token with these claims."""
        issuer, home = claims.get("iss"), self._settings.own_issuer
        if not isinstance(issuer, str) or issuer not in self._verifier.issuers:
            issuer = home
        try:
            since = began(claims if self._settings.is_own(issuer) else {"iat": claims.get("iat")})
        except InvalidTokenError:
            since = 0.0  # not known, so every cut-off counts
        return self._denylist.matches(claims, issuer=issuer, since=since)

    def is_clear(self, known: Verified) -> bool:
        """Return whether nothing stands against a token until the copy's next revision."""
        denylist, token = self._denylist, known.token
        revision = denylist.revision
        if self._lifecycle.phase != "running" or self.predicates or not denylist.complete:
            return False
        if self.is_checked(token):
            probe: Probe | None = known.probe
            if probe is None:
                probe = known.probe = self._probe(token)
            if probe.refuses():
                return False
        self._verifier.verified.touch(known)
        known.clear_at = revision
        return True

    def add_predicate(self, predicate: Predicate) -> None:
        """Ask `predicate` about every token from now on."""
        self.predicates.add(predicate)
        self._denylist.changed()

    def _probe(self, token: AccessToken | RefreshToken) -> Probe:
        return Probe(self._denylist, token.verified_claims, token.issuer, token.since)

    async def authenticate(
        self, encoded: str, token_type: type[AnyToken], on_stale: OnStale | None
    ) -> AnyToken:
        """Return the token that `encoded` is, if it may be used; see `Engine.authenticate`."""
        check_on_stale(on_stale)
        outcome = "error"
        try:
            token = await self._authenticate(encoded, token_type, on_stale)
            outcome = "accepted"
        except RevokeBusError as error:
            outcome = _OUTCOMES.get(type(error), "invalid")
            raise
        finally:
            self._counters.checks[outcome] += 1
        return token

    async def _authenticate(
        self, encoded: str, token_type: type[AnyToken], on_stale: OnStale | None
    ) -> AnyToken:
        token = await self.verify(encoded)
        if not isinstance(token, token_type):
            raise WrongTypeError(token_type.type)
        policy = on_stale or self._settings.on_stale
        await self.require_unrevoked(token, policy)
        if self.predicates and token_type.type in self._settings.checked_token_types:
            await self.predicates.ask(token)
            await self.require_unrevoked(token, policy)  # a predicate may have waited
        return token

    async def verify(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, revoked or not; see `Engine.verify`."""
        token = await self.read(encoded)
        self._verifier.check_time(token)
        return token

    async def read(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, revoked or expired or not."""
        try:
            return self._verifier.verify_signature(encoded)
        except UnknownKeyError as error:
            if self._lifecycle.phase == "running" and self._lifecycle.is_own_loop:
                await error.key_set.refresh()
            error.key_set.require_known()
        return self._verifier.verify_signature(encoded)

    async def require_unrevoked(self, token: AccessToken | RefreshToken, policy: OnStale) -> None:
        """Check `token` by the copy, and what it leaves open by `policy`.

        Raises:
            RevokedTokenError: It is revoked.
            StaleError: It is not known whether it is.
            NotReadyError: The bus is not running.
        """
        if not self.is_checked(token):
            return
        # A local hit refuses in every state; only a miss depends on the copy's age.
        if self.is_known_revoked(token):
            raise RevokedTokenError
        await self._decide_on_a_miss(token, policy)

    async def can_decide(self) -> bool:
        """Return whether a token that nothing is known against would be accepted now."""
        try:
            self._lifecycle.require_running()
            if self._checked:
                await self._decide_on_a_miss(None, self._settings.on_stale)
        except UnavailableError:
            return False
        return True

    async def _decide_on_a_miss(
        self, token: AccessToken | RefreshToken | None, policy: OnStale
    ) -> None:
        """Accept what the copy, if it is proven, or `policy` lets pass; None is any token."""
        self._lifecycle.require_running()
        if not self._freshness.is_fresh and policy != "ask_redis" and self._lifecycle.is_own_loop:
            await self._backend.catch_up()
            if token is not None and self.is_known_revoked(token):
                raise RevokedTokenError
        if not self._freshness.is_fresh:
            await self._decide_without_proof(token, policy)
        elif not self._denylist.complete:
            try:
                await self._ask_redis(token, "The copy of the revocations is not complete")
            except StaleError:
                if policy != "accept":
                    raise
                self._log_that_stale_is_accepted()

    def is_checked(self, token: AccessToken | RefreshToken) -> bool:
        """Return whether revocations of such tokens count."""
        return token.type in self._checked

    def require_loop(self) -> None:
        """Check that the caller can be told of revocations: it runs on the bus's own loop.

        Raises:
            NotReadyError: The bus is not running.
            ConfigurationError: The caller runs on another loop.
        """
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.guard, token")

    def is_known_revoked(self, token: AccessToken | RefreshToken) -> bool:
        """Return whether the copy refuses `token`."""
        return self._probe(token).refuses()

    async def _ask_redis(self, token: AccessToken | RefreshToken | None, why: str) -> None:
        if not self._lifecycle.is_own_loop:
            raise StaleError(f"{why}, and Redis can only be asked on the event loop of the bus")
        targets, since = self._targets(token) if token else ([], 0.0)
        if len(targets) > MOST_TARGETS:
            raise StaleError(f"{why}, and the token's lists are too long to ask Redis about")
        try:
            refused = await self._backend.refuses(targets, since)
        except StoreError as error:
            raise StaleError(f"{why}, and Redis cannot be asked") from error
        if refused:
            raise RevokedTokenError

    def _targets(self, token: AccessToken | RefreshToken) -> tuple[Sequence[Target], float]:
        names = self._settings.revocable_names
        return targets_of(token.verified_claims, token.issuer, names), token.since

    async def _decide_without_proof(
        self, token: AccessToken | RefreshToken | None, policy: OnStale
    ) -> None:
        if policy == "ask_redis":
            await self._ask_redis(token, "The revocations are too old")
            return
        if self._freshness.state == "starting":  # nothing is known, so there is no last known good
            raise StaleError("The revocations have not been loaded yet")
        if policy != "accept":
            raise StaleError("The revocations are too old to decide")
        self._log_that_stale_is_accepted()

    def _log_that_stale_is_accepted(self) -> None:
        now = self._clock.elapsed()
        if now - self._logged_stale_at > _LOG_AGAIN_SECONDS:
            self._logged_stale_at = now
            logger.error(
                "revokebus accepts tokens by revocations that are %.0f s old (on_stale=accept): %s",
                math.inf if self._freshness.age is None else self._freshness.age,
                self._backend.health().last_error,
                extra=event("stale_accepted"),
            )
