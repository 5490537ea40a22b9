"""Says whether a token is genuine: signature, claims, time. Knows nothing of revocation."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from cachetools import LRUCache

from revokebus.errors import ExpiredTokenError, InvalidTokenError
from revokebus.keys.algorithms import Algorithm
from revokebus.keys.remote_key_set import RemoteKeySet, UnknownKeyError
from revokebus.telemetry.events import event
from revokebus.tokens import strict_json
from revokebus.tokens.claims import MAX_TOKEN_LENGTH
from revokebus.tokens.trusted_issuer import trusted_issuers
from revokebus.tokens.verified_cache import Verified, VerifiedCache, valid_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.clock import Clock
    from revokebus.settings.settings import Settings
    from revokebus.telemetry.counters import Counters
    from revokebus.tokens.claims import AccessToken, RefreshToken
    from revokebus.tokens.trusted_issuer import TrustedIssuer

logger = logging.getLogger("revokebus")

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 §7.1
_ORIGIN_BYTES = 2
_HEADERS_KEPT = 64
_LONGEST_KID = 1024
_ALGORITHMS = frozenset(get_args(Algorithm))

# The last character of base64 has bits that mean nothing; one way of writing them is canonical.
_LAST_CHARACTERS = {0: None, 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}

# ``at+jwt`` is an access token (RFC 9068 §2.1); other types are no token for here (RFC 8725 §3.11).
_TYPES = frozenset({None, "jwt", "at+jwt", "application/jwt", "application/at+jwt"})

# A header that brings its own key, or changes what is signed, is not one that we accept
# (RFC 8725 §3.10, RFC 7515 §4.1.11, RFC 7797).
_REFUSED_PARAMETERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "enc", "zip"})


@dataclass(frozen=True, slots=True)
class _Header:
    algorithm: str
    kid: str | None
    typ: str | None


class Verifier:
    """Checks encoded tokens with PyJWT and remembers those that passed.

    Time is checked on every call, cached or not.

    Args:
        settings: Keys, algorithms, issuers, audiences, leeway and the size of the cache.
        clock: Tells the wall time.
        counters: Is told of tokens that had been verified before.

    Attributes:
        verified: The tokens that have passed.
    """

    def __init__(self, settings: Settings, clock: Clock, counters: Counters) -> None:
        self._counters = counters
        self._leeway = settings.leeway
        self._longest = settings.token_life
        self._clock = clock
        self._lock = threading.Lock()  # a route in a thread may authenticate, too
        self._headers: LRUCache[str, _Header] = LRUCache(_HEADERS_KEPT)
        self.verified = VerifiedCache(settings.verified_cache_size, settings.header_beginning)
        # Few: there are as many as issuers, and types that a header may name.
        self._origins: list[tuple[TrustedIssuer, str | None]] = []
        self._home, *others = trusted_issuers(settings, clock, self.verified.clear)
        self._others = {trusted_issuer.issuer: trusted_issuer for trusted_issuer in others}
        self.issuers = frozenset(
            trusted_issuer.issuer or "" for trusted_issuer in (self._home, *others)
        )
        key_sets = [trusted_issuer.key_set for trusted_issuer in (self._home, *others)]
        self.remote_key_sets: Sequence[RemoteKeySet] = [
            key_set for key_set in key_sets if isinstance(key_set, RemoteKeySet)
        ]

    def check_time(self, token: AccessToken | RefreshToken) -> None:
        """Check that `token` is neither expired nor of the future.

        Raises:
            ExpiredTokenError: Its ``exp`` has passed, leeway included.
            InvalidTokenError: Its ``nbf`` or ``iat`` has not come yet.
        """
        valid_from, valid_until = valid_between(token, self._leeway)
        if valid_until <= self._clock.wall():
            raise ExpiredTokenError
        if self._clock.wall() < valid_from:
            raise InvalidTokenError("Token is not yet valid")

    def verify_signature(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, expired or not.

        Raises:
            UnknownKeyError: Its issuer may have published the key since.
            InvalidTokenError: It is anything but a genuine token for this application.
        """
        if len(encoded) > MAX_TOKEN_LENGTH or not encoded.isascii():
            raise InvalidTokenError
        digest = self.verified.digest_of(encoded.encode("ascii"))
        if (known := self.verified.by_digest.get(digest)) is not None:
            self.verified.touch(known)
            self._counters.cache_hits += 1
            return known.token
        times_cleared = self.verified.times_cleared
        if (sealed := self.verified.sealed(digest)) is not None:
            token = self._unsealed(sealed, encoded)
            self.verified.keep_ready(Verified(token, digest, self._leeway, sealed), times_cleared)
            self._counters.cache_hits += 1
            return token
        token, sealed = self._decode(encoded)
        self.verified.add(Verified(token, digest, self._leeway, sealed), times_cleared)
        return token

    def _unsealed(self, sealed: bytes, encoded: str) -> AccessToken | RefreshToken:
        """Return the token of which everything was verified before, at these settings."""
        trusted_issuer, typ = self._origins[int.from_bytes(sealed)]
        signed, _, _ = encoded.rpartition(".")
        claims = json.loads(_decoded(signed.partition(".")[2]).decode())
        return trusted_issuer.read(claims, typ=typ, signed=signed.encode("ascii"))

    def _sealed(self, trusted_issuer: TrustedIssuer, typ: str | None) -> bytes:
        """Return what says where a token comes from."""
        origin = trusted_issuer, typ
        if origin not in self._origins:
            self._origins.append(origin)
        return self._origins.index(origin).to_bytes(_ORIGIN_BYTES)

    def fault_of(self, encoded: str) -> str:
        """Return why `encoded` is no genuine token, for an operator; nothing where it is one.

        Nothing that the token says is in it.
        """
        try:
            self._read(encoded)
        except Exception as error:  # noqa: BLE001 - as for `_decode`
            return _reason(error)
        return ""

    def _decode(self, encoded: str) -> tuple[AccessToken | RefreshToken, bytes]:
        try:
            return self._read(encoded)
        except UnknownKeyError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a client's bytes make a decoder raise
            # The cause is dropped: its message can quote the token.
            logger.debug(
                "revokebus refuses a token: %s", _reason(error), extra=event("token_refused")
            )
            raise InvalidTokenError from None

    def _read(self, encoded: str) -> tuple[AccessToken | RefreshToken, bytes]:
        if not _COMPACT.fullmatch(encoded):
            raise InvalidTokenError("not three parts of base64url (RFC 7515 §7.1)")
        signed, _, last = encoded.rpartition(".")
        head, _, payload = signed.partition(".")
        header = self._header(head)
        signature = _decoded(last)
        # Read, and not believed, before the signature is checked: it says whose keys to take.
        claims = strict_json.loads(_decoded(payload))
        trusted_issuer = self._trust_in(claims)
        if header.algorithm not in trusted_issuer.algorithms:
            raise InvalidTokenError("its algorithm is not accepted: see algorithms")
        as_bytes = signed.encode("ascii")
        self._check_signature(as_bytes, signature, header, trusted_issuer)
        token = trusted_issuer.read(claims, typ=header.typ, signed=as_bytes)
        if token.expires_at - token.issued_at > self._longest + 1:
            # Its revocation might be forgotten before it expires.
            raise InvalidTokenError("it lives longer than max_token_life")
        return token, self._sealed(trusted_issuer, header.typ)

    def _trust_in(self, claims: dict[str, Any]) -> TrustedIssuer:
        issuer = claims.get("iss")
        return self._others.get(issuer, self._home) if isinstance(issuer, str) else self._home

    def _check_signature(
        self, signed: bytes, signature: bytes, header: _Header, trusted_issuer: TrustedIssuer
    ) -> None:
        # By PyJWT's algorithm itself: its JWS reader, which would read the header and the payload
        # once more, takes longer than all of this.
        for key in trusted_issuer.key_set.find(header.kid, header.algorithm):
            if key.Algorithm.verify(signed, key.key, signature):
                return
        if header.kid is None and isinstance(trusted_issuer.key_set, RemoteKeySet):
            raise UnknownKeyError(trusted_issuer.key_set)  # his only key may have been replaced
        raise InvalidTokenError("no key verifies its signature")

    def _header(self, segment: str) -> _Header:
        with self._lock:
            header = self._headers.get(segment)
        if header is None:
            header = _parse_header(strict_json.loads(_decoded(segment)))
            with self._lock:
                self._headers[segment] = header
        return header


def _reason(error: Exception) -> str:
    """Return why a token was refused, without anything that it says."""
    return str(error) if isinstance(error, InvalidTokenError) else type(error).__name__


def _parse_header(header: dict[str, Any]) -> _Header:
    if _REFUSED_PARAMETERS.intersection(header):
        raise InvalidTokenError("its header has a parameter that is refused (RFC 8725 §3.10)")
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise InvalidTokenError
    if kid is not None and (not isinstance(kid, str) or len(kid) > _LONGEST_KID):
        raise InvalidTokenError
    typ = typ.lower() if isinstance(typ, str) else typ
    if typ not in _TYPES:
        raise InvalidTokenError("its header's typ is that of something else")
    return _Header(algorithm, kid, typ)


def _decoded(segment: str) -> bytes:
    last = _LAST_CHARACTERS[len(segment) % 4]  # a KeyError where no bytes are so long
    if last is not None and segment[-1] not in last:
        raise InvalidTokenError
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
