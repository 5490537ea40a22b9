"""The settings, validated once, at the border."""

from __future__ import annotations

import json

# Wide types for the caller, who may write a list or a set; pydantic reads them at run time.
from collections.abc import Mapping, Sequence, Set  # noqa: TC003
from difflib import get_close_matches
from functools import cached_property

# Likewise.
from pathlib import Path  # noqa: TC003
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    FieldSerializationInfo,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from revokebus.errors import ConfigurationError
from revokebus.keys.algorithms import Algorithm, is_symmetric, require_cryptography
from revokebus.keys.own_keys import GENERATE, OwnKeys, likely_algorithms, own_keys
from revokebus.protocol.revocation import ALWAYS
from revokebus.settings.cookies import CookieSettings
from revokebus.settings.outside_issuer import (
    OutsideIssuer,
    StandardClaim,
    check_jwks_url,
    check_rfc9068_names,
)
from revokebus.settings.redis_url import parse_redis_url, without_password

TokenType = Literal["access", "refresh"]
OnStale = Literal["reject", "ask_redis", "accept"]


def check_on_stale(on_stale: str | None) -> None:
    """Check that `on_stale` is None or one of `OnStale`.

    Raises:
        ValueError: It is not.
    """
    if on_stale is not None and on_stale not in get_args(OnStale):
        raise ValueError(f"on_stale must be one of {', '.join(get_args(OnStale))}")


TokenSource = Literal["header", "cookie"]

_KEYS = ("secret_key", "private_key", "public_key", "jwks_url")
LEAST_BYTES = 65_536
"""The smallest cache of verified tokens that is of any use."""

MOST_REPLICAS = 100
"""The most replicas that can be waited for."""

_LONGEST_SESSION = 100 * 366 * 86_400.0
_LONGEST_TTL = 10 * 366 * 86_400.0
_SLACK = 0.1
_TOKEN = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$"  # RFC 9110 §5.6.2  # noqa: S105


class Settings(BaseSettings):
    """Everything that can be set, from arguments or ``REVOKEBUS_*`` environment variables.

    In the environment, ``algorithms``, ``checked_token_types``, ``revocable_claims`` and
    ``token_sources`` are written with commas, ``REVOKEBUS_ALGORITHMS=HS256,HS512``; all other
    lists, and what has names, as JSON. An empty variable counts as not set.

    Attributes:
        redis_url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads them;
            ``redis+sentinel://host:port,host:port/service/database`` to ask Sentinels for the
            primary (their own credentials as ``?sentinel_username=&sentinel_password=``);
            ``redis+cluster://host:port,host:port``; the latter two with ``rediss+`` for TLS; or
            ``memory://`` for one process without Redis.
        redis_password_file: A file with the password of Redis, in place of one in `redis_url`. It
            is read for each connection, so that a new password needs no restart.
        read_from: Where the copy is kept fresh from: ``primary``; ``replica`` for one that the
            Sentinels or the cluster of `redis_url` name; or the URL of a replica, one for each
            host, zone or region. Revocations are written to the primary in any case.
        namespace: Prefix of every key and of the channel. Applications that share a Redis but
            not their revocations need different ones.
        secret_key: The HMAC key. At least as many bytes as the hash is long (RFC 7518 §3.2).
        private_key: In its place, a key in PEM for RS256, PS256, ES256, EdDSA and their like.
        public_key: What verifies the private key's signatures, in PEM. Alone, it makes an
            application that checks and revokes tokens and cannot issue any.
        key_id: The ``kid`` of the key (RFC 7515 §4.1.4), put into tokens.
        previous_keys: Keys that were replaced, by their ``kid`` (``""`` for tokens without one).
            Their tokens are accepted until they expire; remove a key then, or when it leaks.
        jwks_url: In place of a key, where the issuer of all tokens publishes his
            (RFC 7517 §5). It needs `issuer` and `audience`.
        issuers: Outside issuers whose tokens are accepted beside the application's own.
        claim_names: Other names of standard claims, by standard name; see `OutsideIssuer`.
        rfc9068: Whether access tokens are those of RFC 9068 (``typ: at+jwt``), and only those
            are accepted. It needs `issuer` and `audience`, and a ``client_id`` in `issue`.
        algorithms: Signature algorithms that are accepted (RFC 8725 §3.1); the first one signs.
            By default what suits the key: HS256, RS256, ES256, ES384, ES512 or EdDSA.
        issuer: The ``iss`` claim, put into tokens and demanded of them (RFC 7519 §4.1.1).
        audience: The ``aud`` claim, put into tokens and demanded of them (RFC 7519 §4.1.3).
        leeway: Seconds by which the clocks of instances may differ; a token is accepted, and a
            revocation kept, this much longer than ``exp`` says.
        access_ttl: Lifetime of an access token, in seconds (15 minutes).
        refresh_ttl: Lifetime of a refresh token, in seconds (30 days).
        max_token_life: Tokens whose ``exp`` is further from their ``iat``, in seconds, are refused:
            a session, or all tokens of a user, are remembered as revoked for that long. By
            default the longer of the two lifetimes; when they are lowered, keep this at the old
            value until the older tokens have expired.
        session_ttl: Seconds after the sign-in at which a session ends, however often it was
            refreshed; by default a session that is used goes on.
        rotation_grace: Seconds within which a refresh token that was exchanged is answered with
            the newest pair of its session (RFC 9700 §4.14.2): the answer was lost on its way to a
            phone, or two tabs refresh at once. Later it is a replay. See `RevokeBus.rotate`.
        revocable_claims: Claims beside ``jti``, ``sid`` and ``sub`` that ``revoke_claim`` takes.
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
            lifetime plus leeway, and a tenth more.
        verified_cache_size: Bytes for remembering tokens whose signature is not checked again, 500
            or so for each; 0 for none, and at least 65,536 otherwise.
        min_replicas: For how many replicas of Redis a revocation waits, half of `redis_timeout`
            at most, before it counts as done. ``revoke`` can have its own.
        max_entries: The most revocations that the copy holds. At this limit nothing that is
            alive is dropped: Redis is asked about every token that the copy does not refuse.
        token_sources: Where guards look for a token: ``header`` and ``cookie``. A guard can have
            its own. A token in two places at once is refused.
        refresh_sources: Likewise, of refresh tokens alone; as `token_sources` where it is not set.
            ``cookie`` beside ``token_sources=header`` is what pages do that keep the access token
            in memory.
        header_name: The header that a token comes in (RFC 6750 §2.1).
        header_scheme: The word before the token; empty where the header holds nothing else.
        query_parameter: Where a guard asks for it, the parameter that a token comes in.
        cookies: Names and attributes of cookies; ``REVOKEBUS_COOKIES__SAMESITE=strict``.
        allow_allkeys_eviction: Whether to start on a Redis whose ``maxmemory-policy`` may drop
            any key, and with it revocations that nobody then knows of.
    """

    model_config = SettingsConfigDict(
        env_prefix="REVOKEBUS_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        # A file of variables is shared with others, whose names are not ours to refuse.
        dotenv_filtering="match_prefix",
        env_nested_delimiter="__",
        validate_default=True,
        # A value that is refused may be a secret: say which setting, never what was in it.
        hide_input_in_errors=True,
    )

    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    redis_password_file: Path | None = None
    read_from: str = Field(default="primary", repr=False)
    namespace: str = Field(default="revokebus", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    secret_key: SecretStr | str | None = None
    private_key: SecretStr | str | None = None
    public_key: str | None = None
    key_id: str | None = Field(default=None, min_length=1, max_length=256)
    previous_keys: Mapping[str, SecretStr | str] = Field(default_factory=dict)
    jwks_url: str | None = None
    issuers: Sequence[OutsideIssuer] = ()
    claim_names: Mapping[StandardClaim, str] = Field(default_factory=dict)
    rfc9068: bool = False
    algorithms: Annotated[Sequence[Algorithm], NoDecode] = Field(default=("HS256",), min_length=1)
    issuer: str | None = Field(default=None, min_length=1, max_length=2048)
    audience: str | None = Field(default=None, min_length=1)
    leeway: float = Field(default=30.0, ge=0, le=3600)
    access_ttl: float = Field(default=15 * 60.0, gt=0, le=_LONGEST_TTL)
    refresh_ttl: float = Field(default=30 * 86_400.0, gt=0, le=_LONGEST_TTL)
    max_token_life: float | None = Field(default=None, gt=0, le=_LONGEST_TTL)
    session_ttl: float | None = Field(default=None, gt=0, le=_LONGEST_SESSION)
    rotation_grace: float = Field(default=30.0, ge=0, le=300)
    revocable_claims: Annotated[Sequence[str], NoDecode] = ()
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
    verified_cache_size: int = Field(default=16_777_216, ge=0)
    min_replicas: int = Field(default=0, ge=0, le=MOST_REPLICAS)
    max_entries: int = Field(default=1_000_000, ge=1)
    allow_allkeys_eviction: bool = False
    token_sources: Annotated[Sequence[TokenSource], NoDecode] = Field(
        default=("header",), min_length=1
    )
    refresh_sources: Annotated[Sequence[TokenSource] | None, NoDecode] = Field(
        default=None, min_length=1
    )
    header_name: str = Field(default="Authorization", pattern=_TOKEN)
    header_scheme: str = Field(default="Bearer", pattern=rf"^$|{_TOKEN}")
    query_parameter: str = Field(default="access_token", pattern=r"^[A-Za-z0-9._~-]{1,128}$")
    cookies: CookieSettings = CookieSettings()

    @cached_property
    def header(self) -> tuple[bytes, bytes]:
        """The header that a token comes in, and its scheme, both in lower case, for ASGI."""
        return self.header_name.lower().encode(), self.header_scheme.lower().encode()

    @property
    def header_beginning(self) -> bytes:
        """What most clients put before the token in that header."""
        return f"{self.header_scheme} ".encode() if self.header_scheme else b""

    def sources_of(self, token_type: TokenType) -> Sequence[TokenSource]:
        """Return where guards look for tokens of a type."""
        if token_type == "refresh" and self.refresh_sources is not None:  # noqa: S105 - a type
            return self.refresh_sources
        return self.token_sources

    @property
    def uses_cookies(self) -> bool:
        """Whether some tokens may come in cookies, and so need a CSRF value."""
        return any("cookie" in self.sources_of(each) for each in ("access", "refresh"))

    def is_header_only(self, token_type: TokenType) -> bool:
        """Return whether tokens of a type may come in that header only."""
        return tuple(self.sources_of(token_type)) == ("header",)

    def check_no_password(self) -> None:
        """Check that no password of Redis is set here, because a provider has it.

        Raises:
            ConfigurationError: Something is.
        """
        urls = [self.redis_url]
        if self.read_from not in ("primary", "replica"):
            urls.append(self.read_from)
        if self.redis_password_file is not None or any(
            parse_redis_url(each).has_password for each in urls
        ):
            raise ConfigurationError(
                "redis_url (REVOKEBUS_REDIS_URL), read_from or redis_password_file has a password, "
                "and there are credentials as well: leave one of them out"
            )

    @property
    def longest_life(self) -> float:
        """For how long a token that is being issued now can be accepted anywhere, in seconds.

        Its lifetime is rounded up to whole seconds, the clocks of issuer and reader may differ
        by `leeway` each way, and the request that issues it may wait for Redis first.
        """
        return self.token_life + 1.0 + 2 * self.leeway + self.redis_timeout

    @property
    def token_life(self) -> float:
        """The longest time between ``iat`` and ``exp`` of a token that is accepted, in seconds."""
        return self.max_token_life or max(self.access_ttl, self.refresh_ttl)

    @property
    def own_issuer(self) -> str:
        """The ``iss`` of the tokens that are meant where no issuer is named; empty for none."""
        return self.issuer or ""

    def is_own(self, issuer: str) -> bool:
        """Return whether the tokens with this ``iss`` are made by this application."""
        return self.has_own_tokens and issuer == self.own_issuer

    @property
    def revocable_names(self) -> tuple[str, ...]:
        """Every claim that a token can be revoked by."""
        return (*ALWAYS, *self.revocable_claims)

    @property
    def has_own_tokens(self) -> bool:
        """Whether those are tokens of this application, and not of who is behind `jwks_url`."""
        return self.jwks_url is None

    @property
    def uses_redis(self) -> bool:
        """Whether revocations are shared through Redis."""
        return parse_redis_url(self.redis_url).kind != "memory"

    @cached_property
    def asks_for_primary(self) -> bool:
        """Whether Sentinels, or the nodes of a cluster, are asked which server is the primary."""
        return parse_redis_url(self.redis_url).kind in ("sentinel", "cluster")

    @cached_property
    def is_cluster(self) -> bool:
        """Whether the primary is a node of a cluster."""
        return parse_redis_url(self.redis_url).kind == "cluster"

    @property
    def reads_from_replica(self) -> bool:
        """Whether the copy is kept fresh from a replica of Redis."""
        return self.read_from != "primary"

    def own_keys(self) -> OwnKeys | None:
        """Return the application's own keys; None where `jwks_url` stands for them.

        Raises:
            ValueError: A key cannot be used; the message names the setting.
        """
        current = {
            name: _pem_lines(_plain(text))
            for name in ("secret_key", "private_key", "public_key")
            if (text := getattr(self, name)) is not None
        }
        if not current:
            return None
        return own_keys(
            current=current,
            former={kid: _pem_lines(_plain(text)) for kid, text in self.previous_keys.items()},
            key_id=self.key_id,
            algorithms=self.algorithms,
        )

    @field_validator(
        *("algorithms", "checked_token_types", "revocable_claims"),
        *("token_sources", "refresh_sources"),
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator(
        *("algorithms", "revocable_claims", "token_sources", "refresh_sources", "issuers")
    )
    @classmethod
    def _freeze(cls, value: Sequence[Any] | None) -> Sequence[Any] | None:
        return None if value is None else tuple(value)

    @field_validator("checked_token_types")
    @classmethod
    def _freeze_types(cls, value: Set[TokenType]) -> Set[TokenType]:
        return frozenset(value)

    @field_validator("secret_key", "private_key")
    @classmethod
    def _hide_secret(cls, value: SecretStr | str | None) -> SecretStr | None:
        return SecretStr(value) if isinstance(value, str) else value

    @field_validator("previous_keys")
    @classmethod
    def _hide_secrets(cls, value: Mapping[str, SecretStr | str]) -> Mapping[str, SecretStr]:
        return {kid: SecretStr(_plain(text)) for kid, text in value.items()}

    @field_validator("verified_cache_size")
    @classmethod
    def _check_bytes(cls, size: int) -> int:
        if 0 < size < LEAST_BYTES:
            raise ValueError(
                "verified_cache_size (REVOKEBUS_VERIFIED_CACHE_SIZE) is in bytes, some 500 for "
                f"each token: 0 for none, or at least {LEAST_BYTES}"
            )
        return size

    @field_validator("jwks_url")
    @classmethod
    def _check_jwks_url(cls, url: str | None) -> str | None:
        return url if url is None else check_jwks_url(url)

    @field_serializer("redis_url", "read_from")
    def _hide_password(self, url: str, info: FieldSerializationInfo) -> SecretStr | str:
        # As it is for who makes settings of it again, and nothing to be read in a log.
        return without_password(url) if info.mode_is_json() else SecretStr(url)

    @field_validator("redis_url", "read_from", mode="before")
    @classmethod
    def _show_url(cls, url: object) -> object:
        return url.get_secret_value() if isinstance(url, SecretStr) else url

    @field_validator("read_from")
    @classmethod
    def _check_read_from(cls, where: str) -> str:
        if where in ("primary", "replica"):
            return where
        try:
            kind = parse_redis_url(where).kind
        except ValueError as error:
            raise ValueError(
                f"read_from (REVOKEBUS_READ_FROM) {error}, or be primary or replica"
            ) from None
        if kind != "single":
            raise ValueError(
                "read_from (REVOKEBUS_READ_FROM) must name one server, or be primary or replica"
            )
        return where

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
    def _check_keys(self) -> Self:
        keys = [name for name in _KEYS if getattr(self, name) is not None]
        if not keys:
            raise ValueError(
                "secret_key (REVOKEBUS_SECRET_KEY) is not set and has no default; make one with: "
                f"{GENERATE}; or set private_key, public_key or jwks_url"
            )
        if len(keys) > 1 and set(keys) != {"private_key", "public_key"}:
            variables = " and ".join(f"{name} (REVOKEBUS_{name.upper()})" for name in keys)
            raise ValueError(
                f"{variables} are set; only one of them can be the application's key. For tokens "
                "of an outside issuer beside its own there is issuers (REVOKEBUS_ISSUERS)"
            )
        self._choose_algorithms(keys[0])
        if self.jwks_url or self.issuers:
            require_cryptography()
        if self.jwks_url:
            self._check_outside_home()
        else:
            self.own_keys()
            if self.public_key is None or self.private_key is not None:
                self._check_token_life()
            if self.claim_names:
                raise ValueError(
                    "claim_names (REVOKEBUS_CLAIM_NAMES) is for jwks_url and issuers; this "
                    "application's own tokens have the standard names"
                )
        return self

    def _check_token_life(self) -> None:
        if self.token_life < max(self.access_ttl, self.refresh_ttl):
            raise ValueError(
                "max_token_life (REVOKEBUS_MAX_TOKEN_LIFE) is shorter than access_ttl or "
                "refresh_ttl, so this application would refuse its own tokens"
            )

    def _choose_algorithms(self, key: str) -> None:
        if "algorithms" in self.model_fields_set or key == "secret_key":
            return
        suits: Sequence[str] = ("RS256",)
        if key != "jwks_url":
            try:
                suits = likely_algorithms(_pem_lines(_plain(getattr(self, key))))
            except (ValueError, ImportError) as error:
                raise ValueError(f"{key} (REVOKEBUS_{key.upper()}) {error}") from None
        # The default of a frozen model that depends on another field.
        self.__dict__["algorithms"] = tuple(suits)

    def _check_outside_home(self) -> None:
        if any(is_symmetric(each) for each in self.algorithms):
            raise ValueError(
                "algorithms (REVOKEBUS_ALGORITHMS): the keys at jwks_url are public and cannot be "
                "HMAC secrets"
            )
        if not (self.issuer and self.audience):
            raise ValueError(
                "jwks_url (REVOKEBUS_JWKS_URL) needs issuer (REVOKEBUS_ISSUER) and audience "
                "(REVOKEBUS_AUDIENCE): a token that was made for others would be accepted"
            )

    @model_validator(mode="after")
    def _check_issuers(self) -> Self:
        names = [each.issuer for each in self.issuers]
        if len({*names, self.issuer}) <= len(names):
            raise ValueError("issuers (REVOKEBUS_ISSUERS): an issuer is named twice")
        check_rfc9068_names(self.claim_names, rfc9068=self.rfc9068)
        if self.rfc9068 and not (self.issuer and self.audience):
            raise ValueError(
                "rfc9068 (REVOKEBUS_RFC9068) needs issuer (REVOKEBUS_ISSUER) and audience "
                "(REVOKEBUS_AUDIENCE): both are in every such token (RFC 9068 §2.2)"
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
    def _check_where_to_read(self) -> Self:
        if self.read_from == "replica" and not self.asks_for_primary:
            raise ValueError(
                "read_from (REVOKEBUS_READ_FROM) is replica, and redis_url (REVOKEBUS_REDIS_URL) "
                "names neither Sentinels nor a cluster that know one; give its URL"
            )
        if self.reads_from_replica and not self.uses_redis:
            raise ValueError(
                "read_from (REVOKEBUS_READ_FROM) needs a Redis; memory:// has no replicas"
            )
        return self

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        url = parse_redis_url(self.redis_url)
        if self.redis_password_file is not None and url.has_password:
            raise ValueError(
                "redis_password_file (REVOKEBUS_REDIS_PASSWORD_FILE) stands in place of a password "
                "in redis_url (REVOKEBUS_REDIS_URL), which has one"
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


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none, which a slip of the pen makes."""
    prefix = Settings.model_config["env_prefix"]
    known = {f"{prefix}{name}".upper() for name in Settings.model_fields}
    return sorted(
        name
        for name in environment
        if name.upper().startswith(prefix) and name.upper().partition("__")[0] not in known
    )


def similar_setting(name: str) -> str:
    """Return a question about what a variable that is no setting may have meant; or nothing."""
    prefix = str(Settings.model_config["env_prefix"])
    known = [f"{prefix}{field}".upper() for field in Settings.model_fields]
    found = get_close_matches(name.upper(), known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _plain(text: SecretStr | str) -> str:
    return text.get_secret_value() if isinstance(text, SecretStr) else text


def _pem_lines(text: str) -> str:
    """Return `text` with real line ends, where an environment variable could not hold them."""
    return text.replace("\\n", "\n") if text.startswith("-----BEGIN") else text
