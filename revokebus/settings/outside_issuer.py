"""An issuer of tokens that is not this application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads them at run time
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from revokebus.keys.algorithms import Algorithm, is_symmetric

StandardClaim = Literal["sub", "jti", "sid", "type", "scope", "iat", "aud", "client_id"]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class OutsideIssuer(BaseModel):
    """An issuer whose tokens are accepted beside the application's own.

    Attributes:
        issuer: Its ``iss``, compared character by character (RFC 7519 §4.1.1).
        jwks_url: Where it publishes its keys (RFC 7517 §5); https, or http on this machine.
        audience: The ``aud`` that names this application (RFC 7519 §4.1.3), or several of them.
            Without it a token that was made for somebody else would open this application.
        algorithms: Signature algorithms that are accepted (RFC 8725 §3.1).
        claim_names: Where it uses other names than the standard ones, by standard name, as in
            ``{"sid": "session_state", "scope": "scp"}``.
        rfc9068: Whether to accept only tokens that follow RFC 9068 (``typ: at+jwt``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str = Field(min_length=1, max_length=2048)
    jwks_url: str
    audience: str | Sequence[str] = Field(min_length=1)
    algorithms: Sequence[Algorithm] = Field(default=("RS256",), min_length=1)
    claim_names: Mapping[StandardClaim, str] = Field(default_factory=dict)
    rfc9068: bool = False

    @field_validator("jwks_url")
    @classmethod
    def _check_jwks_url(cls, url: str) -> str:
        return check_jwks_url(url)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        check_rfc9068_names(self.claim_names, rfc9068=self.rfc9068)
        return self

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, algorithms: Sequence[Algorithm]) -> Sequence[Algorithm]:
        if any(is_symmetric(each) for each in algorithms):
            raise ValueError("published keys are public; they cannot be HMAC secrets")
        return tuple(algorithms)


def check_rfc9068_names(claim_names: Mapping[StandardClaim, str], *, rfc9068: bool) -> None:
    """Check that the audience is the one that RFC 9068 §4 demands.

    Raises:
        ValueError: Another claim is to stand for it.
    """
    if rfc9068 and "aud" in claim_names:
        raise ValueError("rfc9068 is about the claim aud itself; claim_names must not replace it")


def check_jwks_url(url: str) -> str:
    """Return `url`.

    Raises:
        ValueError: Who is on the way could put his own keys there.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("jwks_url must not have a password: it is shown in logs")
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if is_local or (parts.scheme == "https" and parts.hostname):
        return url
    raise ValueError("jwks_url must be an https:// address, or http:// on this machine")
