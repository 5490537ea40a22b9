"""Whose tokens are accepted, and what each issuer's must say."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import InvalidTokenError
from revokebus.keys.key_set import LocalKeySet
from revokebus.keys.remote_key_set import RemoteKeySet
from revokebus.tokens.claims import AccessToken, parse_outside_token, parse_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from revokebus.clock import Clock
    from revokebus.keys.key_set import KeySet
    from revokebus.settings.settings import Settings
    from revokebus.tokens.claims import RefreshToken

_RFC9068_CLAIMS = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """One issuer.

    Attributes:
        issuer: The ``iss`` that is demanded; None for none.
        audiences: The ``aud`` of which one is demanded; None where there must be none.
        algorithms: The signature algorithms that are accepted.
        key_set: What verifies.
        claim_names: Its names of standard claims, by standard name.
        is_home: Whether its tokens are those that this application issues.
        rfc9068: Whether access tokens must follow RFC 9068.
    """

    issuer: str | None
    audiences: frozenset[str] | None
    algorithms: frozenset[str]
    key_set: KeySet
    claim_names: Mapping[str, str]
    is_home: bool
    rfc9068: bool

    def read(
        self, claims: dict[str, object], *, typ: str | None, signed: bytes
    ) -> AccessToken | RefreshToken:
        """Return the token that verified `claims` describe.

        Args:
            claims: The claims.
            typ: The header's ``typ``, in lower case (RFC 7515 §4.1.9).
            signed: The bytes that the signature covers.

        Raises:
            InvalidTokenError: They are not for here, or make no sense.
        """
        self._check_issuer(claims)
        named = self._under_standard_names(claims)
        self._check_audience(named)
        if self.is_home:
            token = parse_token(named, issuer=self.issuer or "")
        else:
            # Every spelling of a token has the same signed bytes, so they can stand for an id.
            if named.get("jti") is None:
                named["jti"] = _digest(signed)
            token = parse_outside_token(named, issuer=self.issuer or "")
        if self.rfc9068 and isinstance(token, AccessToken):
            self._check_rfc9068(named if not self.is_home else claims, typ, claims)
        return token

    def _check_issuer(self, claims: Mapping[str, object]) -> None:
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise InvalidTokenError("its iss is not exactly the issuer of the settings")

    def _check_audience(self, claims: Mapping[str, object]) -> None:
        """Check ``aud`` (RFC 7519 §4.1.3)."""
        audience = claims.get("aud")
        given = audience if isinstance(audience, list) else [audience]
        if self.audiences is None:
            if audience is not None:
                raise InvalidTokenError("it has an aud, and audience is not set")
        elif not any(isinstance(each, str) and each in self.audiences for each in given):
            raise InvalidTokenError("its aud does not name the audience of the settings")

    def _under_standard_names(self, claims: dict[str, object]) -> dict[str, object]:
        named = dict(claims)
        for standard, theirs in self.claim_names.items():
            named.pop(standard, None)
            if theirs in claims:
                named[standard] = claims[theirs]
        return named

    def _check_rfc9068(
        self, named: Mapping[str, object], typ: str | None, claims: Mapping[str, object]
    ) -> None:
        """Check what RFC 9068 §4 demands of an access token."""
        if typ not in ("at+jwt", "application/at+jwt"):
            raise InvalidTokenError("its header's typ is not at+jwt, which rfc9068 demands")
        if any(claims.get(name) is None for name in _RFC9068_CLAIMS if name != "client_id"):
            raise InvalidTokenError
        if not isinstance(named.get("client_id"), str):
            raise InvalidTokenError


def _digest(signed: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(signed).digest())
    return f"sha256:{digest.rstrip(b'=').decode()}"


def trusted_issuers(
    settings: Settings, clock: Clock, on_change: Callable[[], None]
) -> tuple[TrustedIssuer, ...]:
    """Return the issuers that `settings` name; the application itself, or who stands for it, first.

    Args:
        settings: Keys, issuers, audiences.
        clock: Tells when published keys were fetched.
        on_change: Is called when an issuer has published other keys.
    """
    home = settings.own_keys()
    key_set: KeySet
    if home is not None:
        key_set = LocalKeySet(home.verifying)
    else:
        url = settings.jwks_url or ""
        key_set = RemoteKeySet(url, settings.algorithms, clock, on_change)
    first = TrustedIssuer(
        issuer=settings.issuer,
        audiences=_names(settings.audience),
        algorithms=frozenset(settings.algorithms),
        key_set=key_set,
        claim_names=dict(settings.claim_names.items()),
        is_home=home is not None,
        rfc9068=settings.rfc9068,
    )
    others = [
        TrustedIssuer(
            issuer=each.issuer,
            audiences=_names(each.audience),
            algorithms=frozenset(each.algorithms),
            key_set=RemoteKeySet(each.jwks_url, each.algorithms, clock, on_change),
            claim_names=dict(each.claim_names.items()),
            is_home=False,
            rfc9068=each.rfc9068,
        )
        for each in settings.issuers
    ]
    return first, *others


def _names(audience: str | Sequence[str] | None) -> frozenset[str] | None:
    if audience is None:
        return None
    return frozenset([audience] if isinstance(audience, str) else audience)
