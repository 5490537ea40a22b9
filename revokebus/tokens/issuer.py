"""Makes tokens: pairs of an access and a refresh token of one session."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import jwt
from pydantic import BaseModel, ConfigDict

from revokebus.errors import ConfigurationError, InvalidTokenError
from revokebus.protocol.revocation import EVERYTHING, MOST_TARGETS, just_after
from revokebus.tokens import strict_json
from revokebus.tokens.as_json import as_json
from revokebus.tokens.claims import (
    MAX_TOKEN_LENGTH,
    AccessToken,
    RefreshToken,
    check_scopes,
    parse_token,
)
from revokebus.tokens.lineage import LINEAGE, Lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from revokebus.clock import Clock
    from revokebus.keys.own_keys import SigningKey
    from revokebus.protocol.cut_offs import CutOffs
    from revokebus.protocol.fleet import Fleet
    from revokebus.settings.settings import Settings

RESERVED_CLAIMS = frozenset(
    {
        *("sub", "iat", "exp", "nbf", "jti", "sid", "type", "iss", "aud", "scope"),
        *("auth_time", "fresh", "csrf", LINEAGE, EVERYTHING),
    }
)
"""Names of claims that RevokeBus writes or reads itself."""

# With those that any token has, no more than MOST_TARGETS.
_MOST_VALUES = MOST_TARGETS - 10
_RENEWED_CLAIMS = RESERVED_CLAIMS - {"csrf"}


class IssuedAccess(BaseModel):
    """The answer to a sign-in or a refresh, without a refresh token (RFC 6749 §5.1).

    Attributes:
        access_token: Opens guarded routes.
        token_type: Always ``bearer`` (RFC 6750).
        expires_in: Lifetime of the access token, in seconds.
        session_id: Its ``sid``.
    """

    model_config = ConfigDict(frozen=True)

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme's name
    expires_in: int
    session_id: str

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Leave the token out of ``repr``: it ends up in logs."""
        return [("session_id", self.session_id), ("expires_in", self.expires_in)]


class TokenPair(BaseModel):
    """The answer to a sign-in or a refresh (RFC 6749 §5.1).

    Attributes:
        access_token: Opens guarded routes.
        refresh_token: Buys the next pair, once.
        token_type: Always ``bearer`` (RFC 6750).
        expires_in: Lifetime of the access token, in seconds, from when the pair was first made: an
            answer that is repeated within ``rotation_grace`` has less left.
        refresh_expires_in: Likewise, of the refresh token.
        session_id: The ``sid`` of both tokens and of all that follow from them.
    """

    model_config = ConfigDict(frozen=True)

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme's name
    expires_in: int
    refresh_expires_in: int
    session_id: str

    @property
    def access(self) -> IssuedAccess:
        """The pair without its refresh token, where that goes into a cookie."""
        return IssuedAccess(
            access_token=self.access_token,
            expires_in=self.expires_in,
            session_id=self.session_id,
        )

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Leave the tokens out of ``repr``: it ends up in logs."""
        return [("session_id", self.session_id), ("expires_in", self.expires_in)]


@dataclass(frozen=True, slots=True)
class Continued:
    """What a pair has from the session that it continues.

    Attributes:
        session_id: The session.
        auth_time: When it began, in seconds since the epoch.
        issued_at: The ``iat`` of the new tokens, the same for everybody who is given this pair.
        ids: The ``jti`` of the access and of the refresh token, likewise.
        lineage: What the new refresh token hands on.
        scopes: The ``scope`` of the new tokens; None for those that the session has.
        claims: Their further claims; None likewise.
    """

    session_id: str
    auth_time: float
    issued_at: float
    ids: tuple[str, str]
    lineage: Lineage
    scopes: Iterable[str] | None = None
    claims: Mapping[str, object] | None = None


class Issuer:
    """Signs token pairs.

    Args:
        settings: Keys, algorithm, lifetimes, issuer and audience.
        clock: Tells the wall time.
        cut_offs: What new sign-ins are put after.
        fleet: Tells the time that sign-ins are dated by.
    """

    def __init__(self, settings: Settings, clock: Clock, cut_offs: CutOffs, fleet: Fleet) -> None:
        self._settings = settings
        self._clock = clock
        self._cut_offs = cut_offs
        self._fleet = fleet
        home = settings.own_keys()
        self._key = home.signing if home else None

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
        access_ttl: float | None = None,
        refresh_ttl: float | None = None,
    ) -> TokenPair:
        """Return the pair of a new session of `subject`.

        Args:
            subject: The ``sub`` claim; not empty.
            scopes: The ``scope`` claim of both tokens.
            claims: Further claims of both tokens.
            fresh: Whether the access token says that its owner has just proven who he is.
            access_ttl: Lifetime of the session's access tokens, in seconds; None for the setting.
            refresh_ttl: Likewise, of its refresh tokens.

        Raises:
            ValueError: `subject` is not a text of 1 to 4096 characters, a scope is not a single
                word (RFC 6749 §3.3), `claims` has a name that RevokeBus writes itself, or more
                than 990 values of ``revocable_claims``, the token would be longer than is ever
                accepted, or a lifetime is not more than 0, or more than a token may have.
            TypeError: A claim cannot be written as JSON.
            ConfigurationError: There is no key to sign with.
        """
        return self.begin(
            subject,
            scopes=scopes,
            claims=claims,
            fresh=fresh,
            access_ttl=access_ttl,
            refresh_ttl=refresh_ttl,
            device=None,
        )[0]

    def begin(
        self,
        subject: str,
        *,
        scopes: Iterable[str],
        claims: Mapping[str, object] | None,
        fresh: bool,
        access_ttl: float | None,
        refresh_ttl: float | None,
        device: str | None,
    ) -> tuple[TokenPair, float]:
        """Return the pair of a new session, and when that began; see `issue`.

        Args:
            subject: As for `issue`, and so are the next ones.
            scopes: See there.
            claims: See there.
            fresh: See there.
            access_ttl: See there.
            refresh_ttl: See there.
            device: What the user's list of sessions calls it; None where it is on no list.
        """
        shared = {**self._own_claims(claims), "sub": subject, "sid": secrets.token_urlsafe(16)}
        shared |= self._configured_claims(scopes)
        # Who signs in after a cut-off is in, also where its author was less sure of the time.
        auth_time = self._cut_offs.after(_with_fraction(self._fleet.earliest()))
        now = self.now()
        shared |= {"iat": now, "auth_time": auth_time}
        most = self._settings.session_ttl
        lineage = Lineage(
            access_ttl=self._lifetime("access_ttl", access_ttl),
            refresh_ttl=self._lifetime("refresh_ttl", refresh_ttl),
            ends_at=None if most is None else auth_time + most,
            device=device,
        )
        if self._settings.uses_cookies:
            shared["csrf"] = secrets.token_urlsafe(16)
        access = {**shared, "fresh": True} if fresh else shared
        ids = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        return self._pair(access, shared, ids, lineage), auth_time

    def _lifetime(self, name: str, seconds: float | None) -> float | None:
        most = self._settings.token_life
        if seconds is None:
            return None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"{name} must be a number of seconds")
        if not 0 < seconds <= most:
            raise ValueError(
                f"{name} must be more than 0 and at most {most:.12g} seconds; for more raise "
                "max_token_life (REVOKEBUS_MAX_TOKEN_LIFE) in every instance"
            )
        return float(seconds)

    def go_on(self, token: RefreshToken, continued: Continued) -> TokenPair:
        """Return the pair that follows `token` in its session.

        Raises:
            ValueError: It would be refused, because the settings are others than when it began.
            ConfigurationError: There is no key to sign it with.
        """
        held = {k: v for k, v in token.claims.items() if k not in _RENEWED_CLAIMS}
        kept = {k: v for k, v in held.items() if k != "csrf"}
        own = self._own_claims(kept if continued.claims is None else continued.claims)
        if "csrf" in held:
            own["csrf"] = held["csrf"]
        shared = {**own, "sub": token.subject, "sid": continued.session_id}
        scopes = sorted(token.scopes) if continued.scopes is None else continued.scopes
        shared |= self._configured_claims(scopes)
        shared |= {"iat": continued.issued_at, "auth_time": continued.auth_time}
        if self._settings.uses_cookies and "csrf" not in shared:
            # The session began before there were cookies; the same for all who are given this pair.
            secret = "csrf".join(continued.ids).encode()
            shared["csrf"] = hashlib.sha256(secret).hexdigest()[:32]
        return self._pair(shared, shared, continued.ids, self._shortened(continued))

    def _shortened(self, continued: Continued) -> Lineage:
        """Return the lineage, ended earlier where ``session_ttl`` was lowered since the sign-in."""
        lineage, most = continued.lineage, self._settings.session_ttl
        ends_at = continued.auth_time + (math.inf if most is None else most)
        if ends_at < (math.inf if lineage.ends_at is None else lineage.ends_at):
            lineage = replace(lineage, ends_at=ends_at)
        if lineage.ends_at is not None and lineage.ends_at <= continued.issued_at:
            raise InvalidTokenError("The session cannot go on; sign in again")
        return lineage

    def now(self) -> float:
        """Return the time, for ``iat``: with a fraction, so that a cut-off fits into its second."""
        return _with_fraction(self._clock.wall())

    def _own_claims(self, claims: Mapping[str, object] | None) -> dict[str, object]:
        taken = RESERVED_CLAIMS.intersection(claims or ())
        if taken:
            raise ValueError(f"claims must not set {', '.join(sorted(taken))}")
        if self._settings.rfc9068 and "client_id" not in (claims or ()):
            raise ValueError("rfc9068 needs a client_id in claims (RFC 9068 §2.2)")
        return {name: as_json(value) for name, value in (claims or {}).items()}

    def _configured_claims(self, scopes: Iterable[str]) -> dict[str, object]:
        words = [scopes] if isinstance(scopes, str) else list(scopes)
        check_scopes(words)
        configured = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "scope": " ".join(words) or None,
        }
        return {name: value for name, value in configured.items() if value is not None}

    def _pair(
        self,
        access: Mapping[str, object],
        refresh: Mapping[str, object],
        ids: tuple[str, str],
        lineage: Lineage,
    ) -> TokenPair:
        settings = self._settings
        access_type = "at+jwt" if settings.rfc9068 else "JWT"
        short = self._life(access, lineage, lineage.access_ttl or settings.access_ttl)
        long = self._life(refresh, lineage, lineage.refresh_ttl or settings.refresh_ttl)
        refresh = {**refresh, "type": RefreshToken.type, "jti": ids[1], LINEAGE: lineage.claim()}
        return TokenPair(
            access_token=self._sign(
                {**access, "type": AccessToken.type, "jti": ids[0]}, short, access_type
            ),
            refresh_token=self._sign(refresh, long, "JWT"),
            expires_in=math.ceil(short),
            refresh_expires_in=math.ceil(long),
            session_id=str(access["sid"]),
        )

    def _life(self, claims: Mapping[str, object], lineage: Lineage, ttl: float) -> float:
        ttl = min(ttl, self._settings.token_life)  # which may have been lowered since the sign-in
        issued_at = claims["iat"]
        assert isinstance(issued_at, float)  # noqa: S101 - for the type checker
        return ttl if lineage.ends_at is None else min(ttl, lineage.ends_at - issued_at)

    def _sign(self, claims: dict[str, object], ttl: float, typ: str) -> str:
        key = self._signing_key()
        issued_at = claims["iat"]
        assert isinstance(issued_at, float)  # noqa: S101 - for the type checker
        # Whole seconds, because many verifiers read no others; up, never down.
        complete = {**claims, "exp": math.ceil(issued_at + ttl)}
        try:
            parse_token(complete)
        except InvalidTokenError:
            raise ValueError("subject must be a text of 1 to 4096 characters") from None
        try:
            strict_json.loads(json.dumps(complete).encode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"claims make a token that would be refused: {error}") from None
        if self._values_to_revoke_by(complete) > _MOST_VALUES:
            raise ValueError(
                f"claims has more than {_MOST_VALUES} values of revocable_claims "
                "(REVOKEBUS_REVOCABLE_CLAIMS), each of which Redis is asked about at a refresh"
            )
        headers = {"typ": typ} | ({"kid": key.kid} if key.kid else {})
        encoded = jwt.encode(complete, key.key, algorithm=key.algorithm, headers=headers)
        if len(encoded) > MAX_TOKEN_LENGTH:
            raise ValueError(f"claims make a token of more than {MAX_TOKEN_LENGTH} characters")
        return encoded

    def _values_to_revoke_by(self, claims: Mapping[str, object]) -> int:
        values = (claims.get(name) for name in self._settings.revocable_claims)
        return sum(len(value) if isinstance(value, list) else 1 for value in values)

    def _signing_key(self) -> SigningKey:
        if self._key is None:
            raise ConfigurationError(
                "there is no key to sign with: set secret_key (REVOKEBUS_SECRET_KEY) or "
                "private_key (REVOKEBUS_PRIVATE_KEY)"
            )
        return self._key


def _with_fraction(moment: float) -> float:
    return just_after(moment) if moment == math.floor(moment) else moment
