"""Looks at Redis and at the settings for what endangers the promises, and names the remedy.

Nothing is changed. What the user has no right to look at is reported as not known.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoPermissionError

from revokebus.errors import ConfigurationError, RefusedError, StoreError
from revokebus.protocol.heartbeat import UNKNOWN
from revokebus.protocol.names import Names
from revokebus.results import Finding
from revokebus.scripts import data_set
from revokebus.settings.redis_url import parse_redis_url
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence, Set

    from revokebus.clock import Clock
    from revokebus.connection.client import Client
    from revokebus.protocol.heartbeat import Facts as InstanceFacts
    from revokebus.settings.redis_url import Kind
    from revokebus.settings.settings import Settings
    from revokebus.store.parts import StoreParts

    Info = Mapping[str, Any]

logger = logging.getLogger("revokebus")

_LOGGED_AFTER = 3.0

Answer = TypeVar("Answer")

_TOLERATED_SKEW = 0.001
_SAME = "give every process of this namespace the same"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was found out; None where the user has no right to ask.

    Attributes:
        info: Redis's INFO.
        save: The points at which snapshots are taken.
        fenced: Whether a primary that loses its replicas stops accepting writes.
        skew: By how many seconds Redis's clock is ahead of ours.
        missing: The rights that the user lacks, as ACL rules.
        instances: What the instances that there are say of themselves.
    """

    info: Info | None
    save: str | None
    fenced: bool | None
    skew: float | None
    missing: Sequence[str] | None
    instances: Sequence[InstanceFacts] | None


async def audit(parts: StoreParts, settings: Settings, clock: Clock) -> list[Finding]:
    """Return what was found, what is well included.

    Raises:
        StoreError: Redis could not be asked.
    """
    facts = await _gather(parts, settings, clock)
    return [
        _eviction(facts.info, settings),
        _persistence(facts),
        _replicas(facts.info, settings),
        _fencing(facts, _kind(settings)),
        _clock(facts.skew, settings),
        _rights(facts.missing),
        _retention(settings),
        _lifetimes(facts.instances, settings),
        _alike(facts.instances, settings),
        _tuned_alike(facts.instances, settings),
    ]


class StartAudit:
    """The audit that each start begins with: it logs warnings, and may refuse the Redis.

    Args:
        parts: The Redis.
        settings: What it is compared with.
        clock: Tells the time.

    Attributes:
        refusal: Why the bus must not run on this Redis; empty where it may.
        may_evict: Whether Redis may drop records of its own accord.
    """

    def __init__(self, parts: StoreParts, settings: Settings, clock: Clock) -> None:
        self._parts = parts
        self._settings = settings
        self._clock = clock
        self._is_done = False
        self._warnings: list[Finding] = []
        self._log_at = 0.0
        self.refusal = ""
        self.may_evict = False

    async def once(self) -> None:
        """Audit, unless it was done before and nothing was refused.

        It is asked for with every tick. Warnings are logged by those still there after some
        seconds: a script that revokes and ends would repeat them each time.

        Raises:
            StoreError: Redis could not be asked.
            ConfigurationError: This Redis is refused.
        """
        if self._is_done:
            self._log_when_due()
            return
        findings = await audit(self._parts, self._settings, self._clock)
        refused = [f"{each.message}; {each.remedy}" for each in findings if each.level == "refused"]
        self.refusal = "; ".join(refused)
        if self.refusal:
            raise ConfigurationError(self.refusal)
        self.may_evict = any(each.check == "eviction" and each.level != "ok" for each in findings)
        self._warnings = [each for each in findings if each.level == "warning"]
        self._log_at = self._clock.elapsed() + _LOGGED_AFTER
        self._is_done = True

    def _log_when_due(self) -> None:
        if not self._warnings or self._clock.elapsed() < self._log_at:
            return
        for finding in self._warnings:
            logger.warning(
                "revokebus audit: %s; %s",
                finding.message,
                finding.remedy,
                extra=event("audit_finding"),
            )
        self._warnings = []


async def _gather(parts: StoreParts, settings: Settings, clock: Clock) -> _Facts:
    # INFO first, and without mercy: what cannot be asked for it cannot be relied upon.
    info = await _allowed(parts, lambda redis: redis.info())
    fencing = [
        await _setting(parts, name) for name in ("min-replicas-to-write", "min-replicas-max-lag")
    ]
    return _Facts(
        info=info,
        save=await _setting(parts, "save"),
        fenced=None if None in fencing else "0" not in fencing,
        skew=await _skew(parts, clock),
        missing=await _missing_rights(parts, settings),
        instances=await _of_instances(parts),
    )


def _kind(settings: Settings) -> Kind:
    return parse_redis_url(settings.redis_url).kind


async def _allowed(
    parts: StoreParts, question: Callable[[Client], Awaitable[Answer]]
) -> Answer | None:
    """Return the answer; None where the user may not ask, or the server has no such command."""
    try:
        return await parts.requests.ask(question)
    except RefusedError as error:
        if isinstance(error.__cause__, NoPermissionError) or "unknown" in str(error).lower():
            return None
        raise


async def _setting(parts: StoreParts, name: str) -> str | None:
    try:
        told = await _allowed(parts, lambda redis: redis.config_get(name))
    except StoreError:  # some services end the connection instead
        return None
    # In bytes, because responses are not decoded; redis-py's annotation does not know.
    return next((_text(value) for value in (told or {}).values()), None)


async def _skew(parts: StoreParts, clock: Clock) -> float | None:
    before = clock.wall()
    time = await _allowed(parts, lambda redis: redis.time())
    after = clock.wall()
    if time is None:
        return None
    ahead = time[0] + time[1] / 1_000_000 - (before + after) / 2
    certain = max(0.0, abs(ahead) - (after - before) / 2)
    return certain if ahead > 0 else -certain


async def _of_instances(parts: StoreParts) -> Sequence[InstanceFacts] | None:
    try:
        some = await parts.instances.sample()
    except RefusedError:
        return None
    return [each.facts for each in some if each.facts is not UNKNOWN]


async def _missing_rights(parts: StoreParts, settings: Settings) -> list[str] | None:
    commands = _commands(Names(settings.namespace))
    if _kind(settings) == "cluster":
        commands.append(["CLUSTER", "NODES"])
    if settings.min_replicas:
        commands.append(["WAIT", "0", "1"])
    words = [word for command in commands for word in (str(len(command)), *command)]
    allowed = await _allowed(parts, lambda redis: data_set.RIGHTS.run(redis, [], words))
    if allowed is None:
        return ["+eval", "+evalsha"]
    if not allowed:
        return None  # the server is too old to tell
    return [_rule(command) for command, right in zip(commands, allowed, strict=True) if not right]


def _commands(keys: Names) -> list[list[str]]:
    """Every command that is used, with keys and a channel that it is used on."""
    record = keys.records.replace("*", "jti:x")
    answers = keys.answers("0" * 16)
    return [
        ["EVAL", "return 1", "0"],
        ["EVALSHA", "0" * 40, "0"],
        ["SCRIPT", "LOAD", "return 1"],
        ["TIME"],
        ["HEXISTS", keys.meta, "x"],
        ["HGET", keys.meta, "x"],
        ["HSET", keys.meta, "x", "y"],
        ["HMGET", keys.meta, "x"],
        ["XADD", keys.log, "*", "r", "x"],
        ["XRANGE", keys.log, "-", "+"],
        ["XREVRANGE", keys.log, "+", "-"],
        ["XLEN", keys.log],
        ["DBSIZE"],
        ["PTTL", record],
        ["GET", record],
        ["MGET", record],
        ["SET", record, "x"],
        ["EXISTS", record],
        ["SCAN", "0"],
        ["PERSIST", keys.instances],
        ["HSCAN", keys.instances, "0"],
        ["HRANDFIELD", keys.instances, "1"],
        ["HGET", keys.instances, "x"],
        ["HEXISTS", keys.instances, "x"],
        ["HLEN", keys.instances],
        ["HSET", keys.facts, "x", "y"],
        ["HMGET", keys.facts, "x"],
        ["HEXISTS", keys.facts, "x"],
        ["HDEL", keys.facts, "x"],
        ["HGETALL", keys.facts],
        ["HDEL", keys.instances, "x"],
        ["PEXPIRE", keys.hold, "1"],
        ["DEL", keys.repair],
        ["SET", keys.repair, "x"],
        ["PUBLISH", keys.channel, "x"],
        ["SUBSCRIBE", keys.channel],
        ["PUBLISH", answers, "x"],
        ["SUBSCRIBE", answers],
        ["PING"],
        ["INFO"],
    ]


def _rule(command: Sequence[str]) -> str:
    words = command[:2] if command[0] in ("CLUSTER", "PUBSUB", "SCRIPT") else command[:1]
    return "+" + "|".join(words).lower()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _eviction(info: Info | None, settings: Settings) -> Finding:
    if info is None or "maxmemory_policy" not in info:
        return _unknown("eviction", "+info", "what Redis evicts when it is full")
    policy, evicted = str(info["maxmemory_policy"]), int(info.get("evicted_keys", 0))
    remedy = "set maxmemory-policy to noeviction, and watch used_memory"
    if policy.startswith("allkeys-"):
        message = f"maxmemory-policy is {policy}, which drops revocations and the log as well"
        if not settings.allow_allkeys_eviction:
            remedy += "; or accept the loss with allow_allkeys_eviction"
            remedy += " (REVOKEBUS_ALLOW_ALLKEYS_EVICTION)"
            return Finding("eviction", "refused", message, remedy)
        return Finding("eviction", "warning", message, remedy)
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}, which drops records when Redis is full"
        return Finding("eviction", "warning", f"{message}; {evicted} keys were so far", remedy)
    if evicted:
        message = f"Redis has evicted {evicted} keys since it started; records may be among them"
        remedy = "nothing, if its log was kept: an instance that starts reads that as well"
        return Finding("eviction", "warning", message, remedy)
    return Finding("eviction", "ok", "maxmemory-policy is noeviction and nothing was evicted")


def _persistence(facts: _Facts) -> Finding:
    info = facts.info
    if info is None or "aof_enabled" not in info:
        return _unknown("persistence", "+info", "whether Redis keeps its data over a restart")
    failing = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
        if info.get(name, "ok") != "ok"
    ]
    if failing:
        message = f"Redis fails to write its data to disk ({', '.join(failing)})"
        return Finding(
            "persistence", "warning", message, "look into Redis's log; is the disk full?"
        )
    if info["aof_enabled"]:
        return Finding("persistence", "ok", "appendonly is on")
    if facts.save is None:
        return _unknown("persistence", "+config|get", "whether Redis takes snapshots")
    remedy = "set appendonly yes (appendfsync everysec loses a second at most)"
    if facts.save:
        message = "Redis keeps snapshots only, and loses what came after the last one"
        return Finding("persistence", "warning", message, remedy)
    message = "Redis keeps nothing on disk: after a restart it knows only what live instances do"
    return Finding("persistence", "warning", message, remedy)


def _replicas(info: Info | None, settings: Settings) -> Finding:
    if info is None or "connected_slaves" not in info:
        return _unknown("replicas", "+info", "how many replicas there are")
    count, needed = int(info["connected_slaves"]), settings.min_replicas
    if info.get("role") == "slave":
        message = "redis_url (REVOKEBUS_REDIS_URL) leads to a replica, which accepts no writes"
        return Finding("replicas", "warning", message, "name the primary, or the Sentinels")
    if count < needed:
        message = (
            f"Redis has {count} replicas and min_replicas (REVOKEBUS_MIN_REPLICAS) is {needed}"
        )
        remedy = "add replicas or lower it; until then each revocation raises NotReplicatedError"
        return Finding("replicas", "warning", message, remedy)
    if not count:
        message = "Redis has no replica; when it is lost, live instances are all that is left"
        return Finding("replicas", "warning", message, "add one, with Sentinel or a cluster")
    return Finding("replicas", "ok", f"Redis has {count} connected replicas")


def _fencing(facts: _Facts, kind: Kind) -> Finding:
    if kind == "cluster":
        message = "a primary that the cluster has lost stops by itself"
        return Finding("fencing", "ok", message)
    if facts.info is None:
        return _unknown("fencing", "+info", "whether there can be a second primary")
    # With Sentinels a replica that is away now may be promoted all the same.
    if kind != "sentinel" and not facts.info.get("connected_slaves"):
        return Finding("fencing", "ok", "without replicas there is no second primary")
    if facts.fenced is None:
        return _unknown("fencing", "+config|get", "whether an isolated primary stops")
    if facts.fenced:
        return Finding("fencing", "ok", "min-replicas-to-write and min-replicas-max-lag are set")
    message = "a primary that is cut off goes on accepting writes that are lost later"
    remedy = "set min-replicas-to-write 1 and min-replicas-max-lag to a few seconds"
    return Finding("fencing", "warning", message, remedy)


def _clock(skew: float | None, settings: Settings) -> Finding:
    if skew is None:
        return _unknown("clock", "+time", "what time it is at Redis")
    if abs(skew) <= settings.leeway + _TOLERATED_SKEW:
        message = f"Redis's clock and this one differ by {abs(skew):.3f} s, which leeway covers"
        return Finding("clock", "ok", message)
    message = f"Redis's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this one"
    remedy = "synchronise both (NTP), or raise leeway (REVOKEBUS_LEEWAY)"
    return Finding("clock", "warning", message, remedy)


def _rights(missing: Sequence[str] | None) -> Finding:
    if missing is None:
        return _unknown("rights", "Redis 7 or newer", "which commands the user may use")
    if not missing:
        return Finding("rights", "ok", "the user may use every command that is needed")
    rules = " ".join(dict.fromkeys(missing))
    message = f"the Redis user lacks rights on our keys or channel: {rules}"
    remedy = (
        "grant them with ACL SETUSER (the protocol's page has them all), or the service has "
        "removed them"
    )
    return Finding("rights", "warning", message, remedy)


def _retention(settings: Settings) -> Finding:
    if settings.log_retention is None or settings.log_retention >= settings.longest_life:
        return Finding("retention", "ok", "the log keeps as long as the longest token lives")
    message = (
        f"log_retention (REVOKEBUS_LOG_RETENTION) is {settings.log_retention:g} s, a token may "
        f"live for {settings.longest_life:g} s"
    )
    return Finding("retention", "warning", message, "unset it, or raise it to that")


def _lifetimes(instances: Sequence[InstanceFacts] | None, settings: Settings) -> Finding:
    if instances is None:
        return _unknown(
            "lifetimes", "+hrandfield, +hmget and +eval", "for how long others accept tokens"
        )
    lives = {each.longest_life for each in instances} | {settings.longest_life}
    if len(lives) == 1:
        return Finding("lifetimes", "ok", "all instances accept tokens for equally long")
    message = (
        f"instances accept tokens for {min(lives):g} to {max(lives):g} s, this one for "
        f"{settings.longest_life:g} s; revocations are kept for the longest that was lately seen"
    )
    remedy = (
        "give every process of this namespace the same access_ttl, refresh_ttl, max_token_life "
        "and leeway (REVOKEBUS_...)"
    )
    return Finding("lifetimes", "warning", message, remedy)


def _alike(instances: Sequence[InstanceFacts] | None, settings: Settings) -> Finding:
    if instances is None:
        return _unknown(
            "alike", "+hrandfield, +hmget and +eval", "whether others are set up as this one is"
        )
    names = _differing(
        ("issuer", settings.own_issuer, {each.issuer for each in instances}),
        (
            "checked_token_types",
            tuple(sorted(settings.checked_token_types)),
            {tuple(each.checked_types) for each in instances},
        ),
        (
            "revocable_claims",
            tuple(sorted(settings.revocable_claims)),
            {tuple(each.claims) for each in instances},
        ),
    )
    if not names:
        return Finding("alike", "ok", "no instance looks tokens up otherwise than this one")
    message = f"another instance has another {names}: it may accept what this one revokes"
    return Finding("alike", "warning", message, _SAME)


def _tuned_alike(instances: Sequence[InstanceFacts] | None, settings: Settings) -> Finding:
    if instances is None:
        return _unknown(
            "tuning", "+hrandfield, +hmget and +eval", "whether others are tuned as this one is"
        )
    names = _differing(
        ("tick_interval", settings.tick_interval, {each.interval for each in instances}),
        ("max_staleness", settings.max_staleness, {each.bound for each in instances}),
        (
            "leeway",
            settings.leeway,
            {each.leeway for each in instances},
        ),
        (
            "on_stale",
            settings.on_stale == "accept",
            {each.accepts_stale for each in instances},
        ),
        (
            "read_from",
            settings.reads_from_replica,
            {each.reads_from_replica for each in instances},
        ),
    )
    if not names:
        return Finding("tuning", "ok", "all instances prove their copies alike")
    message = f"another instance has another {names}: a promise is as good as the weakest of them"
    return Finding("tuning", "warning", message, _SAME)


def _differing(*settings: tuple[str, object, Set[object]]) -> str:
    names = [name for name, own, all_of_them in settings if all_of_them - {own}]
    return " and ".join(f"{name} (REVOKEBUS_{name.upper()})" for name in names)


def _unknown(check: str, needed: str, what: str) -> Finding:
    return Finding(check, "warning", f"it cannot be told {what}", f"it needs {needed}")
