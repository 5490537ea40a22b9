from __future__ import annotations

import pytest
from redis.asyncio.connection import SSLConnection
from redis.asyncio.connection import UnixDomainSocketConnection as UnixConnection

from revokebus.settings.redis_url import parse_redis_url

PASSWORD = "p%40ss%2Cword"


def test_a_single_server() -> None:
    """A password with special characters would not be the one that Redis knows."""
    url = parse_redis_url(f"redis://me:{PASSWORD}@localhost:6380/3")
    assert (url.kind, url.nodes) == ("single", ())
    expected = {"host": "localhost", "port": 6380, "db": 3, "username": "me"}
    assert url.options == {**expected, "password": "p@ss,word"}


def test_tls_and_unix() -> None:
    """A connection that was to be encrypted would not be."""
    assert parse_redis_url("rediss://x").options["connection_class"] is SSLConnection
    unix = parse_redis_url("unix:///run/redis.sock?db=2").options
    assert (unix["connection_class"], unix["path"], unix["db"]) == (
        UnixConnection,
        "/run/redis.sock",
        2,
    )


def test_sentinels() -> None:
    """An application would look for the primary at the wrong Sentinels, or log in wrongly."""
    url = parse_redis_url(
        f"redis+sentinel://me:{PASSWORD}@a,b:26380,[::1]:5/my%20main/2"
        "?sentinel_username=you&sentinel_password=s%26s"
    )
    assert (url.kind, url.service) == ("sentinel", "my main")
    assert url.nodes == (("a", 26379), ("b", 26380), ("::1", 5))
    assert url.options == {"username": "me", "password": "p@ss,word", "db": 2}
    assert url.sentinel_options == {"username": "you", "password": "s&s"}


def test_sentinels_share_the_encryption_and_not_the_password() -> None:
    """The server's password would be sent to the Sentinels, or theirs in the clear."""
    url = parse_redis_url(f"rediss+sentinel://:{PASSWORD}@a/main?ssl_cert_reqs=none")
    tls = {"connection_class": SSLConnection, "ssl_cert_reqs": "none"}
    assert url.sentinel_options == tls
    assert url.options == {**tls, "password": "p@ss,word"}


def test_a_cluster() -> None:
    """An application would not find its cluster."""
    url = parse_redis_url(f"rediss+cluster://me:{PASSWORD}@a:7000,b")
    assert (url.kind, url.nodes) == ("cluster", (("a", 7000), ("b", 6379)))
    assert url.options["connection_class"] is SSLConnection
    assert url.options["password"] == "p@ss,word"
    assert "host" not in url.options


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begin with one of"),
        ("localhost:6379", "begin with one of"),
        ("redis+sentinel://a:1", "name the service"),
        ("redis+sentinel://a:1/main/x", "not a number"),
        ("redis+sentinel://a:1,,b:1/main", "between all commas"),
        ("redis+sentinel:///main", "between all commas"),
        ("redis+cluster://a:1/2", "no databases but 0"),
        ("redis+cluster://", "between all commas"),
        ("redis+cluster://a:1?sentinel_password=x", "an option other than"),
        ("redis://a?decode_responses=true", "an option other than"),
        ("redis://a/x", "not the number of a database"),
        ("unix://", "name a path"),
        ("redis://a:port/0", "not a URL"),
        ("redis+cluster://a:port", "not a URL"),
        ("redis://[x", "not a URL"),
    ],
)
def test_what_is_wrong_is_said(url: str, words: str) -> None:
    """A misspelt address would end in an error of another library, or not at all."""
    with pytest.raises(ValueError, match=words):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:hunter2:x@a:port/0",
        "redis+sentinel://me:hunter2@a:port/main",
        "redis+cluster://me:hunter2@a?hunter2=1",
        "hunter2://a",
    ],
)
def test_nothing_of_the_url_is_quoted(url: str) -> None:
    """A password in a refused URL would end up in the log."""
    with pytest.raises(ValueError, match=r".") as refused:
        parse_redis_url(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://host/0?ssl_cert_reqs=none", "rediss://"),
        ("redis+sentinel://host/main?ssl_ca_certs=/ca.pem", "rediss://"),
        ("rediss://host/0?ssl_ca_cert=/ca.pem", "ssl_ca_certs"),
    ],
)
def test_a_slip_about_encryption_is_said(url: str, word: str) -> None:
    """An operator would read an error of a library that names none of his settings."""
    with pytest.raises(ValueError, match=word):
        parse_redis_url(url)
