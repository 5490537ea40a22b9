"""Lists the sessions of a user: those that were begun to be listed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from revokebus.errors import StoreError
from revokebus.protocol.revocation import user_of
from revokebus.protocol.sign_in import LONGEST_DEVICE, SignIn
from revokebus.results import UserSession
from revokebus.telemetry.events import event
from revokebus.tokens.claims import is_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from revokebus.engine.parts import Parts
    from revokebus.tokens.issuer import Issuer, TokenPair

logger = logging.getLogger("revokebus")


class SignIns:
    """Notes who signs in, and tells which of a user's sessions live.

    Args:
        parts: Where it is noted, and what is revoked.
        issuer: Makes the tokens.
    """

    def __init__(self, parts: Parts, issuer: Issuer) -> None:
        self._settings = parts.settings
        self._clock = parts.clock
        self._denylist = parts.denylist
        self._lifecycle = parts.lifecycle
        self._backend = parts.backend
        self._issuer = issuer

    async def sign_in(
        self,
        subject: str,
        device: str,
        *,
        scopes: Iterable[str],
        claims: Mapping[str, object] | None,
        **options: Any,
    ) -> TokenPair:
        """Begin a session that is listed; see `Engine.sign_in`."""
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.sign_in, subject")
        if not isinstance(device, str):
            raise TypeError("device must be a text")
        # A stranger may have chosen it: no line break, no half of a character.
        device = "".join(filter(str.isprintable, device[: 2 * LONGEST_DEVICE]))[:LONGEST_DEVICE]
        pair, began = self._issuer.begin(
            subject, scopes=scopes, claims=claims, device=device, **options
        )
        life = float(pair.refresh_expires_in)
        sign_in = SignIn(pair.session_id, began, 0.0, self._clock.wall() + life, device)
        try:
            user = user_of(self._settings.own_issuer, subject)
            await self._backend.sign_in(user, sign_in, life + 2 * self._settings.leeway)
        except StoreError as error:
            # It is listed once it refreshes: its refresh token knows what is to be noted.
            logger.warning(
                "revokebus has signed a user in whose session is not listed yet: %s",
                error,
                extra=event("sign_in_unlisted"),
            )
        return pair

    async def sessions(self, subject: str, of: str | None) -> list[UserSession]:
        """Return the sessions of a user, those used last first; see `Engine.sessions`."""
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.sessions, subject")
        if not is_identifier(subject):
            raise ValueError("subject must be a text of 1 to 4096 characters")
        issuer = self._settings.own_issuer
        if of is not None and of != issuer:
            return []
        noted = await self._backend.sign_ins(user_of(issuer, subject))
        living = [each for each in noted if not self._is_ended(each, subject, issuer)]
        living.sort(key=lambda each: max(each.signed_in_at, each.refreshed_at), reverse=True)
        return [
            UserSession(
                each.session_id,
                each.device,
                each.signed_in_at,
                each.refreshed_at or None,
                each.expires_at,
            )
            for each in living
        ]

    def _is_ended(self, sign_in: SignIn, subject: str, issuer: str) -> bool:
        claims = {"sub": subject, "sid": sign_in.session_id}
        return self._denylist.matches(claims, issuer=issuer, since=sign_in.signed_in_at)
