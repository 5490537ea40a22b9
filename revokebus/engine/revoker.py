"""Makes revocations: of tokens, sessions, subjects, claims, and of everything."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from revokebus.errors import (
    ConfigurationError,
    NotConfirmedError,
    NotDurableError,
    NotReplicatedError,
    StoreError,
)
from revokebus.protocol.revocation import (
    ALWAYS,
    Kept,
    Revocation,
    everything,
    just_after,
    plain,
)
from revokebus.protocol.wire import MAX_EXPIRES_AT
from revokebus.results import Receipt
from revokebus.settings.settings import MOST_REPLICAS
from revokebus.store.writes import Written
from revokebus.telemetry.events import event
from revokebus.telemetry.tracing import span
from revokebus.tokens.claims import is_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.engine.parts import Parts
    from revokebus.protocol.revocation import Value
    from revokebus.tokens.claims import AccessToken, RefreshToken

logger = logging.getLogger("revokebus")

_LONGEST_NUMBER = 400
_LONGEST_WAIT = 60.0
_ADDED_AT_ONCE = 500
_OF_ONE_SESSION = ("jti", "sid")


@dataclass(frozen=True, slots=True)
class Assurance:
    """What a revocation waits for, beside its record in Redis.

    Attributes:
        min_replicas: How many replicas must acknowledge it; None for the setting.
        confirm: ``fleet`` where every instance is to answer that it has applied it.
        timeout: For how many seconds to wait for these answers.
    """

    min_replicas: int | None = None
    confirm: Literal["fleet"] | None = None
    timeout: float = 2.0

    def check(self) -> None:
        """Check what has to be checked before anything is done.

        Raises:
            ValueError: Something is out of range.
        """
        if self.confirm not in (None, "fleet"):
            raise ValueError('confirm must be "fleet", or None')
        if not 0 < self.timeout <= _LONGEST_WAIT:
            raise ValueError(f"timeout must be more than 0 and at most {_LONGEST_WAIT:g} seconds")


_NO_MORE = Assurance()


class Revoker:
    """Applies revocations here and has them written.

    Args:
        parts: The copy, who records, and the settings.
    """

    def __init__(self, parts: Parts) -> None:
        self._settings = parts.settings
        self._clock = parts.clock
        self._expiry_clock = parts.expiry_clock
        self._lifecycle = parts.lifecycle
        self._verifier = parts.verifier
        self._cut_offs = parts.cut_offs
        self._fleet = parts.fleet
        self._denylist = parts.denylist
        self._backend = parts.backend

    # What is to be revoked

    def of_token(self, token: AccessToken | RefreshToken) -> Revocation:
        """Return the revocation of one token."""
        # A clock that is behind by the leeway gives it that much more again.
        expires_at = float(math.ceil(token.expires_at + 2 * self._settings.leeway))
        return Revocation("jti", token.jti, min(expires_at, MAX_EXPIRES_AT), issuer=token.issuer)

    def of_session(
        self, session_id: str, issued_before: float | datetime | None, issuer: str | None
    ) -> Revocation:
        """Return the revocation of a session, for good unless there is a cut-off."""
        if not is_identifier(session_id):
            raise ValueError("session_id must be a text of 1 to 4096 characters")
        cut_off = None if issued_before is None else self._moment(issued_before)
        return Revocation("sid", plain(session_id), self._last(), cut_off, self._issuer(issuer))

    def of_claim(
        self,
        claim: str,
        value: Value | UUID,
        issued_before: float | datetime | None,
        issuer: str | None,
        keep: str | None = None,
    ) -> Revocation:
        """Return the revocation of every token with a claim, up to a cut-off, but for a session."""
        allowed = self._settings.revocable_names
        if claim not in allowed:
            raise ValueError(
                f"tokens are revoked by {', '.join(allowed)}; to revoke by another claim name it "
                "in revocable_claims (REVOKEBUS_REVOCABLE_CLAIMS), in every instance"
            )
        value = str(value) if isinstance(value, UUID) else value
        _check_value(value)
        if claim in ALWAYS and not isinstance(value, str):
            raise ValueError(f"{claim} is a text in every token, so no token has this value")
        kept = None if keep is None else _kept(keep, claim)
        of = self._issuer(issuer)
        if claim == "jti" and issued_before is None:  # one token, whenever it was issued
            cut_off = None
        else:
            cut_off = self._cut_off(issued_before, is_ours=self._settings.is_own(of))
        return Revocation(claim, plain(value), self._last(), cut_off, of, kept)

    def of_everything(self, issued_before: float | datetime | None) -> Revocation:
        """Return the revocation of every token, up to a cut-off."""
        return everything(
            self._last(), self._cut_off(issued_before, is_ours=self._settings.has_own_tokens)
        )

    def _last(self) -> float:
        """Return until when a token can live that has been issued by now."""
        now = max(self._clock.wall(), self._fleet.latest())
        return float(math.ceil(now + self._fleet.longest_life))

    def _issuer(self, issuer: str | None) -> str:
        if issuer is None:
            return self._settings.own_issuer
        if issuer not in self._verifier.issuers:
            raise ValueError(
                "issuer is none whose tokens are accepted: they are named in issuer "
                "(REVOKEBUS_ISSUER) and issuers (REVOKEBUS_ISSUERS)"
            )
        return issuer

    def _cut_off(self, issued_before: float | datetime | None, *, is_ours: bool) -> float:
        if issued_before is not None:
            return self._moment(issued_before)
        # Outside issuers cannot put a new sign-in after our cut-off, so it must not be ahead.
        now = self._cut_offs.after(self._fleet.latest()) if is_ours else self._fleet.middle()
        return just_after(just_after(now))  # the sign-in that was put after another one included

    def _moment(self, moment: float | datetime) -> float:
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise ValueError("issued_before must say its time zone")
            moment = moment.timestamp()
        if isinstance(moment, bool) or not isinstance(moment, int | float):
            raise TypeError("issued_before must be seconds since the epoch, or a datetime")
        latest = just_after(self._clock.wall() + self._settings.leeway)
        if not 1 <= moment <= latest:
            raise ValueError("issued_before must be a moment after 1970 and not in the future")
        return float(moment)

    # Revoking

    def foresee(self, revocation: Revocation) -> int:
        """Return how many sessions that this process knows of `revocation` would end."""
        now = self._clock.wall()
        return len(
            {
                (token.issuer, token.session_id or token.jti)
                for token in self._verifier.verified.tokens()
                if token.expires_at > now
                and not self._denylist.matches(
                    token.verified_claims, issuer=token.issuer, since=token.since
                )
                and revocation.refuses(
                    token.verified_claims, issuer=token.issuer, since=token.since
                )
            }
        )

    async def revoke_one(
        self, revocation: Revocation, assurance: Assurance, *, dry_run: bool
    ) -> Receipt:
        """Refuse what `revocation` refuses, or only say what it would touch."""
        assurance.check()
        if dry_run:
            return await self._dry_run(revocation)
        return await self.revoke([revocation], assurance)

    async def _dry_run(self, revocation: Revocation) -> Receipt:
        self.require_denylist()
        instances: int | None
        try:
            instances = await self._backend.instances()
        except StoreError:
            instances = None
        return Receipt(0, None, sessions=self.foresee(revocation), instances=instances)

    async def revoke(
        self, revocations: Sequence[Revocation], assurance: Assurance = _NO_MORE
    ) -> Receipt:
        """Refuse what `revocations` refuse, here at once, and have them written."""
        self.require_denylist()
        assurance.check()
        needed, began = self._replicas_needed(assurance.min_replicas), self._clock.elapsed()
        with span("revokebus.revoke") as current:
            live = self._live(revocations)
            current.set_attribute("revokebus.revocations", len(live))
            if len(live) <= _ADDED_AT_ONCE:
                is_known = not self._denylist.add_all(live)
            else:
                is_known = not await self._apply(live)
            try:
                if live:
                    written = await self._backend.write(live, needed, is_known=is_known)
                else:
                    written = Written()
            except StoreError as error:
                raise NotDurableError(
                    f"applied here, not durable: {error}; it is written as soon as Redis takes "
                    "it, if this process lives until then"
                ) from error
            receipt = Receipt(len(live), written.position, written.replicas)
            if receipt.position is not None:
                current.set_attribute("revokebus.position", receipt.position)
            if written.replicas is not None and written.replicas < needed:
                raise NotReplicatedError(receipt, needed)
            if assurance.confirm is not None:
                receipt = await self._confirmed(receipt, written, began, assurance.timeout)
                current.set_attribute("revokebus.confirmed", receipt.is_confirmed)
        logger.info(
            "revokebus has revoked %d tokens or groups of tokens",
            receipt.revocations,
            extra=event("revoked", revocations=receipt.revocations),
        )
        return receipt

    def _live(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        # Expired is what the fleet takes for expired: this machine's clock may be ahead.
        now = min(self._expiry_clock.now(), self._fleet.least())
        return [revocation for revocation in revocations if revocation.expires_at > now]

    async def _confirmed(
        self, receipt: Receipt, written: Written, began: float, timeout: float
    ) -> Receipt:
        try:
            confirmed = await self._backend.confirm(written, began, timeout)
        except StoreError as error:
            raise NotConfirmedError(receipt, error) from error
        return replace(
            receipt, confirmations=confirmed.confirmations, knows_all=confirmed.knows_all
        )

    async def _apply(self, revocations: Sequence[Revocation]) -> int:
        """Add many to the copy, and return how many have changed it."""
        changed = 0
        try:
            for at in range(0, len(revocations), _ADDED_AT_ONCE):
                changed += self._denylist.add_all(revocations[at : at + _ADDED_AT_ONCE])
                await asyncio.sleep(0)  # let requests through
        except asyncio.CancelledError:
            self._backend.keep(revocations)  # some are applied, so it was promised
            raise
        return changed

    def require_denylist(self) -> None:
        """Check that a revocation would have an effect.

        Raises:
            NotReadyError: The bus is not running.
            ConfigurationError: It runs on another event loop, or nothing is checked.
        """
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.revoke, token")
        if not self._settings.denylist_enabled:
            raise ConfigurationError(
                "denylist_enabled (REVOKEBUS_DENYLIST_ENABLED) is off, so nothing would refuse "
                "the token"
            )

    def _replicas_needed(self, min_replicas: int | None) -> int:
        if min_replicas is None:
            return self._settings.min_replicas
        if type(min_replicas) is not int or not 0 <= min_replicas <= MOST_REPLICAS:
            raise ValueError(f"min_replicas must be a whole number from 0 to {MOST_REPLICAS}")
        if min_replicas and not self._settings.uses_redis:
            raise ConfigurationError("min_replicas needs a Redis; memory:// has no replicas")
        return min_replicas


def _kept(session_id: object, claim: str) -> Kept:
    if claim in _OF_ONE_SESSION:
        raise ValueError(f"a {claim} belongs to one session, so there is no other one to keep")
    if not is_identifier(session_id):
        raise ValueError("keep must be the sid of a session, a text of 1 to 4096 characters")
    return Kept(str.__str__(session_id))


def _check_value(value: object) -> None:
    if isinstance(value, str):
        if not is_identifier(value):
            raise ValueError("the value must be a text of 1 to 4096 characters")
    elif len(str(_plain_number(value))) > _LONGEST_NUMBER:
        raise ValueError("the value must be a text, a number, or true or false")


def _plain_number(value: object) -> object:
    try:
        return plain(value)
    except TypeError:
        raise ValueError("the value must be a text, a number, or true or false") from None
