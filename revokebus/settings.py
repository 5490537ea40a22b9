"""The settings, validated once, at the border."""

from __future__ import annotations

import json

# Wide types for the caller, who may write a list or a set; pydantic reads them at run time.
from collections.abc import Sequence, Set  # noqa: TC003
from typing import Annotated, Literal, Self

import jwt
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from revokebus.redis_url import parse_redis_url

Algorithm = Literal["HS256", "HS384", "HS512"]
TokenType = Literal["access", "refresh"]
OnStale = Literal["reject", "ask_redis", "accept"]

_KEY_BYTES: dict[Algorithm, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
MOST_REPLICAS = 100
"""The most replicas that can be waited for."""

_LONGEST_TTL = 10 * 366 * 86_400.0
_SLACK = 0.1
_FEWEST_CHARACTERS = 8
_LONGEST_UNIT = 16

# Long enough for HS256, and printed in documentation that many people copy from.
_WELL_KNOWN_SECRETS = frozenset(
    {
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        "a-valid-string-secret-that-is-at-least-384-bits-long",
        "your-256-bit-secret-your-256-bit-secret",
        "your-super-secret-key-change-in-production",
        "your-secret-key-change-this-in-production",
        "your-secret-key-here-change-in-production",
        "super-secret-key-change-this-in-production",
        "change-this-to-a-secure-random-secret-key",
        "please-change-this-secret-key-in-production",
        "this-is-a-very-secret-key-change-it-now",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "abcdefghijklmnopqrstuvwxyz123456",
        "0123456789abcdef0123456789abcdef",
        "12345678901234567890123456789012",
    }
)

_GENERATE = 'python -c "import secrets; print(secrets.token_urlsafe(64))"'


class Settings(BaseSettings):
    """Everything that can be set, from arguments or ``REVOKEBUS_*`` environment variables.

    A list is written with commas in the environment: ``REVOKEBUS_ALGORITHMS=HS256,HS512``. An
    empty variable counts as not set.

    Attributes:
        redis_url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads them;
            ``redis+sentinel://host:port,host:port/service/database`` to ask Sentinels for the
            primary (their own credentials as ``?sentinel_username=&sentinel_password=``);
            ``redis+cluster://host:port,host:port``; the latter two with ``rediss+`` for TLS; or
            ``memory://`` for one process without Redis.
        namespace: Prefix of every key and of the channel. Applications that share a Redis but
            not their revocations need different ones.
        secret_key: The HMAC key. At least as many bytes as the hash is long (RFC 7518 §3.2).
        algorithms: Signature algorithms that are accepted (RFC 8725 §3.1); the first one signs.
        issuer: The ``iss`` claim, put into tokens and demanded of them (RFC 7519 §4.1.1).
        audience: The ``aud`` claim, put into tokens and demanded of them (RFC 7519 §4.1.3).
        leeway: Seconds by which the clocks of instances may differ; a token is accepted, and a
            revocation kept, this much longer than ``exp`` says.
        access_ttl: Lifetime of an access token, in seconds (15 minutes).
        refresh_ttl: Lifetime of a refresh token, in seconds (30 days). A revoked session is
            remembered for the longer of the two; after lowering them, revoke no session that
            was begun before as long as its tokens live.
        denylist_enabled: Whether tokens are checked against revocations. Without it nothing
            connects to Redis, and ``revoke`` and ``rotate`` raise.
        checked_token_types: The token types whose revocation is checked.
        max_staleness: Seconds: a copy that was not proven complete for longer does not decide.
        on_stale: What happens to a token that the copy does not refuse when the copy is older
            than that: ``reject`` (503), ``ask_redis`` (one look-up within `redis_timeout`, and
            503 if it fails), or ``accept`` (by what was known last; logged as an error). A
            guard can have its own.
        startup_timeout: Seconds that start-up waits for the first complete copy; the
            application then starts without one and refuses until it is there.
        tick_interval: Seconds between two proofs.
        redis_timeout: Seconds within which Redis must answer a request.
        log_retention: Seconds that the change feed keeps. By default the longest token
            lifetime plus leeway.
        verified_cache_size: Verified tokens whose signature is not checked again; 0 for none.
        min_replicas: For how many replicas of Redis a revocation waits, half of `redis_timeout`
            at most, before it counts as done. ``revoke`` can have its own.
        max_entries: The most revocations that the copy holds. At this limit nothing that is
            alive is dropped: Redis is asked about every token that the copy does not refuse.
        allow_allkeys_eviction: Whether to start on a Redis whose ``maxmemory-policy`` may drop
            any key, and with it revocations that nobody then knows of.
    """

    model_config = SettingsConfigDict(
        env_prefix="REVOKEBUS_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
        # A value that is refused may be a secret: say which setting, never what was in it.
        hide_input_in_errors=True,
    )

    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    namespace: str = Field(default="revokebus", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    secret_key: SecretStr | str | None = None
    algorithms: Annotated[Sequence[Algorithm], NoDecode] = Field(default=("HS256",), min_length=1)
    issuer: str | None = Field(default=None, min_length=1)
    audience: str | None = Field(default=None, min_length=1)
    leeway: float = Field(default=0.0, ge=0, le=3600)
    access_ttl: float = Field(default=15 * 60.0, gt=0, le=_LONGEST_TTL)
    refresh_ttl: float = Field(default=30 * 86_400.0, gt=0, le=_LONGEST_TTL)
    denylist_enabled: bool = True
    checked_token_types: Annotated[Set[TokenType], NoDecode] = Field(
        default=frozenset({"access", "refresh"}), min_length=1
    )
    max_staleness: float = Field(default=30.0, gt=0, le=86_400)
    on_stale: OnStale = "reject"
    startup_timeout: float = Field(default=5.0, ge=0, le=3600)
    tick_interval: float = Field(default=0.5, ge=0.01, le=3600)
    redis_timeout: float = Field(default=1.0, gt=0, le=60)
    log_retention: float | None = Field(default=None, gt=0, le=2 * _LONGEST_TTL)
    verified_cache_size: int = Field(default=10_000, ge=0)
    min_replicas: int = Field(default=0, ge=0, le=MOST_REPLICAS)
    max_entries: int = Field(default=1_000_000, ge=1)
    allow_allkeys_eviction: bool = False

    @property
    def longest_life(self) -> float:
        """For how long a token that is being issued now can be accepted anywhere, in seconds.

        Its lifetime is rounded up to whole seconds, the clocks of issuer and reader may differ
        by `leeway` each way, and the request that issues it may wait for Redis first.
        """
        longest = max(self.access_ttl, self.refresh_ttl)
        return longest + 1.0 + 2 * self.leeway + self.redis_timeout

    @property
    def uses_redis(self) -> bool:
        """Whether revocations are shared through Redis."""
        return parse_redis_url(self.redis_url).kind != "memory"

    @property
    def signing_key(self) -> str:
        """The HMAC key in the clear."""
        if not isinstance(self.secret_key, SecretStr):  # validated; for the type checker
            raise TypeError("secret_key is not set")
        return self.secret_key.get_secret_value()

    @field_validator("algorithms", "checked_token_types", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("algorithms")
    @classmethod
    def _freeze_algorithms(cls, value: Sequence[Algorithm]) -> Sequence[Algorithm]:
        return tuple(value)

    @field_validator("checked_token_types")
    @classmethod
    def _freeze_types(cls, value: Set[TokenType]) -> Set[TokenType]:
        return frozenset(value)

    @field_validator("secret_key")
    @classmethod
    def _hide_secret(cls, value: SecretStr | str | None) -> SecretStr | None:
        return SecretStr(value) if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        try:
            parse_redis_url(url)
        except ValueError as error:
            raise ValueError(
                f"redis_url (REVOKEBUS_REDIS_URL) {error}. It looks like "
                "redis://user:password@host:port/database with the password percent-encoded, "
                "unix:///path?db=database, redis+sentinel://host:port,host:port/service/database, "
                "redis+cluster://host:port,host:port, or memory://"
            ) from None
        return url

    @model_validator(mode="after")
    def _check_secret_key(self) -> Self:
        if self.secret_key is None:
            raise ValueError(
                "secret_key (REVOKEBUS_SECRET_KEY) is not set and has no default; "
                f"make one with: {_GENERATE}"
            )
        secret = self.signing_key
        if not _can_sign(secret, self.algorithms):
            raise ValueError(
                "secret_key (REVOKEBUS_SECRET_KEY) cannot be an HMAC key: it looks like a public "
                "key or a certificate, or is not valid UTF-8"
            )
        algorithm = max(self.algorithms, key=_KEY_BYTES.__getitem__)
        size, needed = len(secret.encode()), _KEY_BYTES[algorithm]
        if size < needed:
            raise ValueError(
                f"secret_key (REVOKEBUS_SECRET_KEY) has {size} bytes, {algorithm} needs at least "
                f"{needed} (RFC 7518 §3.2); make one with: {_GENERATE}"
            )
        if _is_guessable(secret):
            raise ValueError(
                "secret_key (REVOKEBUS_SECRET_KEY) is well known or repeats itself, so anyone "
                f"can sign tokens; make one with: {_GENERATE}"
            )
        return self

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.min_replicas and not self.uses_redis:
            raise ValueError(
                "min_replicas (REVOKEBUS_MIN_REPLICAS) needs a Redis; memory:// has no replicas"
            )
        return self

    @model_validator(mode="after")
    def _check_staleness(self) -> Self:
        if self.max_staleness < 2 * self.tick_interval + _SLACK:
            raise ValueError(
                "max_staleness (REVOKEBUS_MAX_STALENESS) must be at least twice tick_interval "
                f"(REVOKEBUS_TICK_INTERVAL) and {_SLACK} s more, or the copy is stale between "
                "two proofs"
            )
        return self


def _is_guessable(secret: str) -> bool:
    if secret.lower() in _WELL_KNOWN_SECRETS or len(set(secret)) < _FEWEST_CHARACTERS:
        return True
    # A string is a repetition exactly if it stands inside its own double, shifted.
    return 0 < (secret + secret).find(secret, 1) <= _LONGEST_UNIT


def _can_sign(secret: str, algorithms: Sequence[Algorithm]) -> bool:
    try:
        for algorithm in algorithms:
            # A short key is told apart later, with its length.
            jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
    except (jwt.PyJWTError, UnicodeError):
        return False
    return True
