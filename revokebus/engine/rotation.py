"""Exchanges refresh tokens, each once (RFC 9700 §4.14.2)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING

from revokebus.errors import (
    ConfigurationError,
    InvalidTokenError,
    NotDurableError,
    ReplayedTokenError,
    RevokedTokenError,
)
from revokebus.protocol.revocation import SPENT, Spending, Terms, targets_of
from revokebus.tokens.claims import RefreshToken
from revokebus.tokens.issuer import Continued

if TYPE_CHECKING:
    from revokebus.engine.checker import Checker
    from revokebus.engine.parts import Parts
    from revokebus.engine.revoker import Revoker
    from revokebus.tokens.issuer import Issuer, TokenPair

_LONGEST_CLIENT = 4096


class Rotation:
    """Has Redis decide who was first, and ends the session of whoever was not.

    Args:
        parts: The verifier, who decides, and the settings.
        issuer: Makes the next pair.
        checker: Says whether a token was revoked.
        revoker: Ends sessions.
    """

    def __init__(self, parts: Parts, issuer: Issuer, checker: Checker, revoker: Revoker) -> None:
        self._settings = parts.settings
        self._verifier = parts.verifier
        self._backend = parts.backend
        self._issuer = issuer
        self._checker = checker
        self._revoker = revoker

    async def rotate(self, token: RefreshToken, client: str | None) -> TokenPair:
        """Exchange `token` for the next pair of its session; see `Engine.rotate`."""
        if not isinstance(token, RefreshToken):
            raise TypeError("rotate takes a RefreshToken")
        self._revoker.require_denylist()
        grace = self._grace(client)
        if not self._settings.is_own(token.issuer):
            raise InvalidTokenError("The token was issued elsewhere and is exchanged there")
        self._verifier.check_time(token)
        if self._checker.is_known_revoked(token):
            raise RevokedTokenError
        next_ = self._next(token)
        pair = self._pair(token, next_)  # before the token is used up
        spent = await self._backend.spend(
            self._revoker.of_token(token)._replace(claim=SPENT),
            targets_of(token.verified_claims, token.issuer, self._settings.revocable_names),
            Terms(token.since, grace, _note(token, client, next_) if grace else b""),
        )
        if spent.outcome is Spending.REVOKED:
            raise RevokedTokenError
        if spent.outcome is Spending.SPENT:
            first = _read_note(spent.note, token, client) if grace else None
            if first is None:
                await self._end_session(token)
                raise ReplayedTokenError
            return self._pair(token, first)
        return pair

    def _pair(self, token: RefreshToken, next_: Continued) -> TokenPair:
        try:
            return self._issuer.go_on(token, next_)
        except ValueError as error:
            raise InvalidTokenError("The session cannot go on; sign in again") from error

    def _grace(self, client: str | None) -> float:
        if not self._settings.rotation_grace:
            return 0.0
        if not isinstance(client, str) or not 0 < len(client) <= _LONGEST_CLIENT:
            raise ConfigurationError(
                "rotation_grace (REVOKEBUS_ROTATION_GRACE) is set, so rotate has to be told who "
                "asks, or a thief elsewhere would be given the tokens, too: "
                "bus.rotate(token, client=client_of(request))"
            )
        return self._settings.rotation_grace

    def _next(self, token: RefreshToken) -> Continued:
        ids = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        return Continued(token.session_id, token.since, self._issuer.now(), ids)

    async def _end_session(self, token: RefreshToken) -> None:
        session = self._revoker.of_session(token.session_id, None, token.issuer)
        lasting = max(session.expires_at, self._revoker.of_token(token).expires_at)
        try:
            await self._revoker.revoke([session._replace(expires_at=lasting)])
        except NotDurableError as error:  # refused here, and said in the status
            raise ReplayedTokenError from error


def _note(token: RefreshToken, client: str | None, next_: Continued) -> bytes:
    return json.dumps([_who(token, client), next_.issued_at, *next_.ids]).encode()


def _read_note(note: bytes | None, token: RefreshToken, client: str | None) -> Continued | None:
    """Return what the first one was given, if `client` is he and it is still kept."""
    try:
        who, issued_at, access, refresh = json.loads(note or b"")
        if not hmac.compare_digest(who, _who(token, client)):
            return None
        return Continued(token.session_id, token.since, float(issued_at), (access, refresh))
    except (ValueError, TypeError, RecursionError):
        return None


def _who(token: RefreshToken, client: str | None) -> str:
    # With the token, so that Redis does not show which tokens have the same client.
    text = json.dumps([token.jti, client or ""])
    return hashlib.sha256(text.encode()).hexdigest()
