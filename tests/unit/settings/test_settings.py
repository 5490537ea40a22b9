import secrets
import string
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from revokebus import Settings
from revokebus.engine.engine import Engine

GOOD = secrets.token_urlsafe(64)


def message_of(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**settings)
    return str(caught.value)


def test_everything_but_the_secret_has_a_default() -> None:
    """A first try would need a page of configuration."""
    settings = Settings(secret_key=GOOD)
    assert settings.redis_url == "redis://localhost:6379/0"
    assert (settings.access_ttl, settings.refresh_ttl) == (900, 30 * 86400)
    assert settings.max_staleness == 30
    assert settings.checked_token_types == {"access", "refresh"}
    assert settings.leeway == 30
    assert settings.longest_life == 30 * 86400 + 2 + 2 * 30


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container could not be configured."""
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", GOOD)
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", "unix:///run/redis.sock")
    monkeypatch.setenv("REVOKEBUS_ALGORITHMS", "HS512, HS256")
    monkeypatch.setenv("REVOKEBUS_CHECKED_TOKEN_TYPES", "refresh")
    monkeypatch.setenv("REVOKEBUS_ACCESS_TTL", "60")
    settings = Settings()
    assert settings.redis_url == "unix:///run/redis.sock"
    assert settings.algorithms == ("HS512", "HS256")
    assert settings.checked_token_types == {"refresh"}
    assert settings.access_ttl == 60


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file with `${X:-}` would switch every check off, or refuse every token."""
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", GOOD)
    for name in ("CHECKED_TOKEN_TYPES", "AUDIENCE", "ISSUER", "ALGORITHMS", "REDIS_URL"):
        monkeypatch.setenv(f"REVOKEBUS_{name}", "")
    assert Settings() == Settings(secret_key=GOOD)


@pytest.mark.parametrize("name", ["checked_token_types", "algorithms", "audience", "issuer"])
@pytest.mark.parametrize("value", ["", ","])
def test_nothing_is_not_a_choice(name: str, value: str) -> None:
    """A stray comma would switch every check off without a word."""
    if name in ("audience", "issuer") and value == ",":
        return
    assert name in message_of(secret_key=GOOD, **{name: value})


@pytest.mark.parametrize("text", ["HS512,HS256", " HS512 , HS256", '["HS512", "HS256"]'])
def test_lists_are_read_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The form that pydantic-settings documents, or the one that people write, would fail."""
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", GOOD)
    monkeypatch.setenv("REVOKEBUS_ALGORITHMS", text)
    assert Settings().algorithms == ("HS512", "HS256")


PUBLIC_KEY = f"-----BEGIN PUBLIC KEY-----\n{GOOD}\n-----END PUBLIC KEY-----"


@pytest.mark.parametrize(
    "secret",
    [PUBLIC_KEY, f"ssh-rsa {GOOD}", GOOD + "\udc80"],
    ids=["PEM", "SSH", "a lone surrogate"],
)
def test_a_secret_that_cannot_sign_is_refused(secret: str) -> None:
    """The first sign-in would fail, or everybody could sign with a public key."""
    message = message_of(secret_key=secret)
    assert "cannot be an HMAC key" in message
    assert GOOD not in message


def test_a_missing_secret_names_the_setting_and_the_remedy() -> None:
    """An application would run with a secret that everybody knows."""
    message = message_of()
    assert "REVOKEBUS_SECRET_KEY" in message
    assert "token_urlsafe" in message


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_shorter_than_the_hash_is_refused(algorithm: str, size: int) -> None:
    """A key shorter than the hash can be found by trying (RFC 7518 §3.2)."""
    letters = string.ascii_letters + string.digits + "._"
    settings = Settings(secret_key=letters[:size], algorithms=(algorithm,))
    assert settings.own_keys() is not None
    message = message_of(secret_key=letters[: size - 1], algorithms=(algorithm,))
    assert "REVOKEBUS_SECRET_KEY" in message
    assert f"at least {size}" in message


def test_the_longest_hash_of_several_decides() -> None:
    """A key that suffices for HS256 would sign with HS512."""
    assert "HS512 needs at least 64" in message_of(
        secret_key=GOOD[:40], algorithms=("HS256", "HS512")
    )


@pytest.mark.parametrize(
    "secret",
    [
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "a-string-secret-at-least-256-bits-long",
        "A-STRING-SECRET-AT-LEAST-256-BITS-LONG",
        "x" * 64,
        "secret" * 10,
        "changeme-" * 5,
        "abababcdcdcd" * 4,
    ],
)
def test_a_secret_that_anybody_can_guess_is_refused(secret: str) -> None:
    """A secret copied from a tutorial lets anybody sign tokens."""
    assert "well known or repeats itself" in message_of(secret_key=secret)


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://x", "redis+sentinel://x", "redis://[x"]
)
def test_an_unknown_scheme_is_refused_at_start(url: str) -> None:
    """A misspelt address would be noticed at the first revocation."""
    message = message_of(secret_key=GOOD, redis_url=url)
    assert "REVOKEBUS_REDIS_URL" in message
    assert "redis+sentinel://host:port,host:port/service" in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun/ter2@host:1/0",
        "redis://host:port/0",
        "redis://host/abc",
        "redis://host?db=x",
        "redis://host?no_such_option=1",
        "redis://host?decode_responses=true",
        "unix://",
    ],
)
def test_a_url_that_redis_py_cannot_use_is_refused_at_start(url: str) -> None:
    """A misspelt address would be tried for ever, or a password be quoted in a traceback."""
    message = message_of(secret_key=GOOD, redis_url=url)
    assert "REVOKEBUS_REDIS_URL" in message
    assert "hun" not in message
    assert "ter2" not in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%2Fw@localhost:6380/3",
        "rediss://host/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "redis://host?max_connections=20",
    ],
)
def test_a_url_that_redis_py_can_use_is_accepted(url: str) -> None:
    """A working address would be refused."""
    assert Settings(secret_key=GOOD, redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "name", ["access_ttl", "refresh_ttl", "max_staleness", "redis_timeout", "log_retention"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e10, "soon"])
def test_a_duration_that_is_none_is_refused(name: str, value: object) -> None:
    """Tokens would be born expired, or never expire."""
    assert name in message_of(secret_key=GOOD, **{name: value})


def test_a_bound_shorter_than_the_ticks_is_refused() -> None:
    """An instance would be stale between two proofs and answer 503 at random."""
    message = message_of(secret_key=GOOD, max_staleness=1.0, tick_interval=0.5)
    assert "REVOKEBUS_MAX_STALENESS" in message
    assert "REVOKEBUS_TICK_INTERVAL" in message


@pytest.mark.parametrize("namespace", ["", "a b", "a{b}", "a*", "x" * 65])
def test_a_namespace_cannot_hold_redis_syntax(namespace: str) -> None:
    """A star in the name would match another application's keys."""
    assert "namespace" in message_of(secret_key=GOOD, namespace=namespace)


def test_a_misspelt_argument_is_refused() -> None:
    """A setting would silently have no effect."""
    assert "max_stalness" in message_of(secret_key=GOOD, max_stalness=3)


def test_neither_repr_nor_errors_show_a_secret() -> None:
    """The key or the password of Redis would stand in the log."""
    url = "redis://user:hunter2@localhost/0"
    settings = Settings(secret_key=GOOD, redis_url=url)
    assert GOOD not in f"{settings!r} {settings}"
    assert "hunter2" not in f"{settings!r} {settings}"
    assert "tooshort" not in message_of(secret_key="tooshort")
    assert "hunter2" not in message_of(secret_key=GOOD, redis_url="http://user:hunter2@x")


def test_settings_cannot_be_changed_afterwards() -> None:
    """A part that read a setting early would disagree with one that reads it late."""
    settings = Settings(secret_key=GOOD)
    with pytest.raises(ValidationError):
        settings.access_ttl = 5  # type: ignore[misc]  # on purpose


def test_memory_has_no_replicas_to_wait_for() -> None:
    """Each log-out would fail, and the reason be found in production."""
    assert "REVOKEBUS_MIN_REPLICAS" in message_of(
        secret_key=GOOD, redis_url="memory://", min_replicas=1
    )


async def test_a_misspelt_variable_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting that is meant to protect would have no effect, and nobody know."""
    monkeypatch.setenv("REVOKEBUS_TOKEN_SOURCE", "cookie")
    monkeypatch.setenv("REVOKEBUS_COOKIE__SAMESITE", "strict")
    monkeypatch.setenv("REVOKEBUS_COOKIES__SAMESITE", "strict")
    monkeypatch.setenv("revokebus_secret_key", GOOD)
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", "memory://")
    async with Engine():
        pass
    told = [record.getMessage() for record in caplog.records if "no setting" in record.message]
    assert [text.split()[3] for text in told] == [
        "REVOKEBUS_COOKIE__SAMESITE",
        "REVOKEBUS_TOKEN_SOURCE",
    ]
    assert "cookie" not in " ".join(told)


def test_a_file_of_variables_is_shared_with_others(tmp_path: Path) -> None:
    """The .env of an application that exists would be refused, or another's key taken for ours."""
    file = tmp_path / ".env"
    file.write_text(
        "DATABASE_URL=postgresql://db/app\n"
        "SECRET_KEY=of-something-else\n"
        "ISSUER=of-something-else\n"
        f"REVOKEBUS_SECRET_KEY={GOOD}\n"
        "REVOKEBUS_COOKIES__SAMESITE=strict\n"
    )
    settings = Settings(_env_file=file)
    assert isinstance(settings.secret_key, SecretStr)
    assert settings.secret_key.get_secret_value() == GOOD
    assert settings.issuer is None
    assert settings.cookies.samesite == "strict"


def test_a_slip_of_the_pen_in_a_file_of_variables_is_refused(tmp_path: Path) -> None:
    """A bound that somebody has set would not be the one that counts."""
    file = tmp_path / ".env"
    file.write_text(f"REVOKEBUS_SECRET_KEY={GOOD}\nREVOKEBUS_MAX_STALENES=5\n")
    with pytest.raises(ValidationError, match="max_stalenes"):
        Settings(_env_file=file)


@pytest.mark.parametrize(
    ("redis_url", "read_from", "message"),
    [
        ("redis://a", "replica", "names neither Sentinels nor a cluster"),
        ("memory://", "redis://b", "memory:// has no replicas"),
        ("redis://a", "redis+sentinel://b/main", "must name one server"),
        ("redis://a", "elsewhere", "or be primary or replica"),
    ],
)
def test_a_replica_must_be_found(redis_url: str, read_from: str, message: str) -> None:
    """An application would start, and never have a copy from there."""
    with pytest.raises(ValidationError, match=message):
        Settings(redis_url=redis_url, read_from=read_from, secret_key=GOOD)


@pytest.mark.parametrize(
    ("redis_url", "read_from"),
    [
        ("redis://a", "primary"),
        ("redis://a", "rediss://:pass@b:1/0?ssl_cert_reqs=none"),
        ("redis+sentinel://a/main", "replica"),
        ("redis+cluster://a", "unix:///run/redis.sock"),
    ],
)
def test_where_copies_are_read_from(redis_url: str, read_from: str) -> None:
    """A place that works would be refused."""
    settings = Settings(redis_url=redis_url, read_from=read_from, secret_key=GOOD)
    assert settings.reads_from_replica == (read_from != "primary")


def test_no_form_of_output_shows_a_password() -> None:
    """Settings are logged, or sent to a page of errors, in whatever form is at hand."""
    urls: dict[str, Any] = {
        "redis_url": "redis+sentinel://me:hidden1@a:1/main?sentinel_password=hidden2",
        "read_from": "redis://:hidden3@b:2/0",
    }
    settings = Settings(**urls, secret_key=GOOD)
    shown = f"{settings!r} {settings!s} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hidden" not in shown
    assert GOOD not in shown
    assert "me:***@a:1/main?sentinel_password=***" in settings.model_dump_json()
    again = Settings(**settings.model_dump())
    assert again == settings
    assert again.redis_url == urls["redis_url"]
