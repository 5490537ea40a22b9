"""Exchanges refresh tokens, each once (RFC 9700 §4.14.2)."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from revokebus.errors import (
    InvalidTokenError,
    NotDurableError,
    ReplayedTokenError,
    RevokedTokenError,
    StaleError,
    StoreError,
)
from revokebus.protocol.exchange import Exchange, Outcome
from revokebus.protocol.revocation import MOST_TARGETS, Target, targets_of, user_of
from revokebus.protocol.sign_in import SignIn, encode_sign_in
from revokebus.telemetry.events import event
from revokebus.tokens.claims import RefreshToken
from revokebus.tokens.issuer import Continued
from revokebus.tokens.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from revokebus.engine.checker import Checker
    from revokebus.engine.parts import Parts
    from revokebus.engine.revoker import Revoker
    from revokebus.protocol.exchange import Exchanged
    from revokebus.tokens.claims import AccessToken
    from revokebus.tokens.issuer import Issuer, TokenPair

logger = logging.getLogger("revokebus")

_LONGEST_CLIENT = 4096


class Rotation:
    """Has Redis decide what becomes of a refresh token, and ends the session after a replay.

    Args:
        parts: The verifier, who decides, and the settings.
        issuer: Makes the next pair.
        checker: Says whether a token was revoked.
        revoker: Ends sessions.
    """

    def __init__(self, parts: Parts, issuer: Issuer, checker: Checker, revoker: Revoker) -> None:
        self._settings = parts.settings
        self._clock = parts.clock
        self._verifier = parts.verifier
        self._lifecycle = parts.lifecycle
        self._counters = parts.counters
        self._backend = parts.backend
        self._issuer = issuer
        self._checker = checker
        self._revoker = revoker

    async def rotate(
        self,
        token: RefreshToken,
        client: str | None,
        scopes: Iterable[str] | None,
        claims: Mapping[str, object] | None,
    ) -> TokenPair:
        """Exchange `token` for the next pair of its session; see `Engine.rotate`."""
        if not isinstance(token, RefreshToken):
            raise TypeError("rotate takes a RefreshToken")
        self._revoker.require_denylist()
        _check_client(client)
        self._check(token)
        if scopes is not None:
            scopes = [scopes] if isinstance(scopes, str) else list(scopes)
        next_ = self._next(token, scopes, claims)
        pair = self._pair(token, next_)  # before anything is written
        names = self._settings.revocable_names
        unless = targets_of(token.verified_claims, token.issuer, names)
        if len(unless) > MOST_TARGETS:  # issued before it could be revoked by so many
            raise InvalidTokenError("The token's lists are too long; sign in again")
        exchange = self._exchange(token, pair, _note(token, client, next_))
        exchanged = await self._backend.exchange(_session(token), exchange, unless)
        if exchanged.outcome is Outcome.REVOKED:
            raise RevokedTokenError
        if exchanged.outcome is Outcome.GRANTED:
            return pair
        newest = _read_note(exchanged, token, client, next_)
        if newest is None:
            await self._end_session(token)
            raise ReplayedTokenError
        return self._pair(token, newest)

    def _check(self, token: RefreshToken) -> None:
        if not self._settings.is_own(token.issuer):
            raise InvalidTokenError("The token was issued elsewhere and is exchanged there")
        self._verifier.check_time(token)
        if self._checker.is_known_revoked(token):
            raise RevokedTokenError

    async def is_spent(self, token: AccessToken | RefreshToken) -> bool:
        """Return whether `token` was exchanged; see `Engine.is_spent`."""
        if not isinstance(token, RefreshToken) or not self._settings.is_own(token.issuer):
            return False
        self._lifecycle.require_running()
        try:
            newest = await self._backend.generation(_session(token))
        except StoreError as error:
            raise StaleError("It is not known whether the token was used") from error
        return newest is not None and Lineage.of(token.verified_claims).generation < newest

    def _exchange(self, token: RefreshToken, pair: TokenPair, note: bytes) -> Exchange:
        # As long as any token of the session may live, and a second for its rounding.
        left = max(token.expires_at - self._clock.wall(), 0.0, pair.refresh_expires_in)
        lineage, entry = Lineage.of(token.verified_claims), b""
        if lineage.device is not None:
            now, life = self._clock.wall(), pair.refresh_expires_in
            entry = encode_sign_in(
                SignIn(token.session_id, token.since, now, now + life, lineage.device)
            )
        return Exchange(
            generation=lineage.generation,
            jti=token.jti,
            # Redis compares it with its own clock, which may be ahead of this one.
            issued_at=token.issued_at + self._settings.leeway,
            since=token.since,
            life=left + 2 * self._settings.leeway + 1.0,
            note=note,
            user=user_of(token.issuer, token.subject) if entry else None,
            entry=entry,
        )

    def _pair(self, token: RefreshToken, next_: Continued) -> TokenPair:
        try:
            return self._issuer.go_on(token, next_)
        except ValueError as error:
            if next_.scopes is not None or next_.claims is not None:
                raise
            raise InvalidTokenError("The session cannot go on; sign in again") from error

    def _next(
        self,
        token: RefreshToken,
        scopes: Iterable[str] | None,
        claims: Mapping[str, object] | None,
    ) -> Continued:
        lineage = Lineage.of(token.verified_claims)
        return Continued(
            session_id=token.session_id,
            auth_time=token.since,
            issued_at=self._issuer.now(),
            ids=(secrets.token_urlsafe(16), secrets.token_urlsafe(16)),
            lineage=lineage.at(lineage.generation + 1),
            scopes=scopes,
            claims=claims,
        )

    async def _end_session(self, token: RefreshToken) -> None:
        self._counters.replays += 1
        logger.warning(
            "revokebus ends a session because a refresh token of it was replayed",
            extra=event("replayed", session=token.session_id, subject=token.subject),
        )
        session = self._revoker.of_session(token.session_id, None, token.issuer)
        lasting = max(session.expires_at, self._revoker.of_token(token).expires_at)
        try:
            await self._revoker.revoke([session._replace(expires_at=lasting)])
        except NotDurableError as error:  # refused here, and said in the status
            raise ReplayedTokenError from error


def _session(token: RefreshToken) -> Target:
    return Target(token.issuer, "sid", "string", token.session_id)


def _check_client(client: object) -> None:
    if client is None:
        return
    if not isinstance(client, str) or not 0 < len(client) <= _LONGEST_CLIENT:
        raise ValueError(f"client must be a text of 1 to {_LONGEST_CLIENT} characters, or None")


def _note(token: RefreshToken, client: str | None, next_: Continued) -> bytes:
    who = None if client is None else _digest(token, client)
    return json.dumps([who, next_.issued_at, *next_.ids]).encode()


def _read_note(
    exchanged: Exchanged, token: RefreshToken, client: str | None, next_: Continued
) -> Continued | None:
    """Return what the session was given last; None where that is not for this client."""
    if exchanged.outcome is not Outcome.REPEATED:
        return None
    try:
        who, issued_at, access, refresh = json.loads(exchanged.note)
        if who is not None and not hmac.compare_digest(who, _digest(token, client or "")):
            return None
        newest = float(issued_at), (str(access), str(refresh))
    except (ValueError, TypeError, RecursionError):
        return None
    return replace(
        next_,
        issued_at=newest[0],
        ids=newest[1],
        lineage=next_.lineage.at(exchanged.generation),
    )


def _digest(token: RefreshToken, client: str) -> str:
    # With the session, so that Redis does not show which sessions have the same client.
    return hashlib.sha256(json.dumps([token.session_id, client]).encode()).hexdigest()
