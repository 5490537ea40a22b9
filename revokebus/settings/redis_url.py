"""What ``redis_url`` says: which servers there are, and how to find the one to write to."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from redis.asyncio.connection import SSLConnection, parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

Address = tuple[str, int]
"""A host and a port."""

Kind = Literal["memory", "single", "sentinel", "cluster"]

_KINDS: dict[str, Kind] = {
    "memory": "memory",
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_DEFAULT_PORT: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = frozenset({"db", "username", "password", "max_connections"})
_TLS_OPTIONS = frozenset(
    name for name in signature(SSLConnection.__init__).parameters if name.startswith("ssl_")
)
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})

MOST_CONNECTIONS = 4
"""How many connections an instance has to its Redis at most."""

SCHEMES = tuple(_KINDS)
"""The schemes that are understood."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL, read.

    Attributes:
        kind: Whether the server is fixed, or found by Sentinel or in a cluster.
        options: How redis-py connects to the server, without its address where that is found.
        nodes: The Sentinels, or nodes of the cluster, to ask; none where the server is fixed.
        service: The name by which the Sentinels know the server.
        sentinel_options: How redis-py connects to a Sentinel, without the address.
    """

    kind: Kind
    options: Mapping[str, Any] = field(repr=False)
    nodes: Sequence[Address] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_password(self) -> bool:
        """Whether it has the password of the server."""
        return bool(self.options.get("password"))


def parse_redis_url(url: str) -> RedisUrl:
    """Return what `url` says; nothing is connected.

    Raises:
        ValueError: It is not such a URL. The message says what is wrong and quotes nothing.
    """
    try:
        return _parse(url)
    except _NotUnderstoodError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        # Without the cause, which can quote a part of the password.
        raise ValueError("is not a URL that redis-py understands") from None


class _NotUnderstoodError(ValueError):
    """What is wrong, in words of our own."""


def without_password(url: str) -> str:
    """Return a URL with three stars in place of each password that is in it."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = "&".join(
        f"{key}=***" if "password" in key else f"{key}{equals}{value}"
        for key, equals, value in pairs
    )
    hidden = f"{name}{colon}{'***' if colon else ''}{at}{hosts}"
    return urlunsplit(parts._replace(netloc=hidden, query=query))


def _parse(url: str) -> RedisUrl:
    parts = urlsplit(url)
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        raise _NotUnderstoodError("must begin with one of " + ", ".join(f"{s}://" for s in SCHEMES))
    if parts.fragment or "#" in url:
        raise _NotUnderstoodError("has a #; in a password it is written %23")
    if kind == "memory":
        return RedisUrl(kind, {})
    _check_options(parts, kind)
    if kind == "single":
        return _parse_single(url, parts)
    return _parse_several(parts, kind)


def _check_options(parts: SplitResult, kind: Kind) -> None:
    allowed = _OPTIONS | _SENTINEL_OPTIONS if kind == "sentinel" else _OPTIONS
    for name, values in parse_qs(parts.query).items():
        if name.startswith("ssl_") and not parts.scheme.startswith("rediss"):
            raise _NotUnderstoodError("has options for TLS, which only rediss:// and the like use")
        if name == "max_connections" and not _is_enough(values):
            raise _NotUnderstoodError(
                f"allows fewer than {MOST_CONNECTIONS} connections, which an instance may need"
            )
        if name not in allowed | _TLS_OPTIONS:
            raise _NotUnderstoodError(
                f"has an option other than {', '.join(sorted(allowed | _TLS_OPTIONS))}"
            )


def _is_enough(values: Sequence[str]) -> bool:
    return all(value.isdecimal() and int(value) >= MOST_CONNECTIONS for value in values)


def _parse_single(url: str, parts: SplitResult) -> RedisUrl:
    if parts.scheme == "unix":
        if not parts.path:
            raise _NotUnderstoodError("must name a path: unix:///path?db=database")
    elif not _is_database(parts.path):
        raise _NotUnderstoodError("has a path that is not the number of a database")
    return RedisUrl("single", {**parse_url(url)})


def _parse_several(parts: SplitResult, kind: Kind) -> RedisUrl:
    user, _, hosts = parts.netloc.rpartition("@")
    service, database = _split_path(parts.path, kind)
    scheme = parts.scheme.partition("+")[0]
    query = "&".join(
        pair for pair in parts.query.split("&") if pair.partition("=")[0] not in _SENTINEL_OPTIONS
    )

    def options_at(host: str, user: str) -> dict[str, Any]:
        # One URL for each host, so that redis-py reads what it would read in its own.
        at = f"{user}@" if user else ""
        return {**parse_url(f"{scheme}://{at}{host}/{database}?{query}")}

    each = [options_at(host, "") for host in hosts.split(",")]
    if not all(one.get("host") for one in each):
        raise _NotUnderstoodError("must name a host between all commas: host:port,host:port")
    nodes = tuple((one["host"], one.get("port", _DEFAULT_PORT[kind])) for one in each)
    options = options_at("host", user)
    del options["host"]
    return RedisUrl(kind, options, nodes, service, _sentinel_options(options, parts))


def _split_path(path: str, kind: Kind) -> tuple[str, str]:
    service, _, database = path.strip("/").partition("/")
    if kind == "sentinel":
        if not service:
            raise _NotUnderstoodError(
                "must name the service: redis+sentinel://host:port,host:port/service/database"
            )
        if not _is_database(database):
            raise _NotUnderstoodError("has a database that is not a number")
        return unquote(service), database
    if service not in ("", "0") or database:
        raise _NotUnderstoodError("must have no path: a cluster has no databases but 0")
    return "", ""


def _sentinel_options(options: Mapping[str, Any], parts: SplitResult) -> Mapping[str, Any]:
    # The same encryption as the server's, credentials of their own.
    shared = {
        name: value
        for name, value in options.items()
        if name == "connection_class" or name.startswith("ssl_")
    }
    query = parse_qs(parts.query)
    own = {
        name.removeprefix("sentinel_"): query[name][0]
        for name in sorted(_SENTINEL_OPTIONS)
        if name in query
    }
    return {**shared, **own}


def _is_database(text: str) -> bool:
    number = text.strip("/")
    return not number or number.isdecimal()
