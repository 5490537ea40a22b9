from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import AsyncMock

import pytest

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    NotDurableError,
    NotReadyError,
    RefusedError,
    StaleError,
    StoreError,
)
from revokebus.store.audit import _allowed, _setting
from revokebus.testing import ManualClock, RedisServer
from tests.support import until_quiet

if TYPE_CHECKING:
    import redis

    from revokebus.results import Finding
    from revokebus.store.parts import StoreParts
    from revokebus.testing import ClusterServers, SentinelServers
    from tests.support import Eventually, MakeSettings

CHECKS = {"eviction", "persistence", "replicas", "fencing", "clock", "rights", "retention"}
CHECKS |= {"lifetimes", "alike", "tuning"}
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


async def audited(settings: Any, **engine: Any) -> dict[str, Finding]:
    async with Engine(settings, **engine) as running:
        found = {finding.check: finding for finding in await running.audit()}
    assert set(found) == CHECKS
    assert all(f.remedy for f in found.values() if f.level != "ok")
    return found


async def test_a_server_that_is_set_up_well(redis_binary: str, make_settings: MakeSettings) -> None:
    """A log full of false warnings would hide the true ones."""
    with RedisServer(redis_binary, {"appendonly": "yes"}) as server:
        found = await audited(make_settings(server.url))
    assert {check for check, each in found.items() if each.level != "ok"} == {"replicas"}


async def test_warnings_are_for_those_who_stay(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    """A script that revokes would print the same warnings each time."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as engine:
        await engine.revoke_session("s")
    assert "revokebus audit:" not in caplog.text
    async with Engine(settings) as engine:
        await eventually(lambda: "revokebus audit:" in caplog.text)
        said = caplog.text.count("revokebus audit:")
        warnings = [each for each in await engine.audit() if each.level == "warning"]
        await until_quiet(engine)
        assert caplog.text.count("revokebus audit:") == said == len(warnings)


async def test_a_redis_without_info_is_said_in_the_status(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """On a managed service nobody would know that a failover to older data is not noticed."""
    async with Engine(make_settings(redis_server.url)) as engine:
        await until_quiet(engine)
        assert engine.status().sees_restarts is True
    client.flushall()
    client.execute_command(
        *("ACL SETUSER", "narrow", "on", ">secret", "allkeys", "allchannels", "+@all", "-info")
    )  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    url = redis_server.url.replace("redis://", "redis://narrow:secret@")
    async with Engine(make_settings(url)) as engine:
        await until_quiet(engine)
        assert engine.status().sees_restarts is False
    async with Engine(make_settings()) as engine:
        assert engine.status().sees_restarts is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_redis_that_evicts_anything_is_refused(
    redis_server: RedisServer, client: redis.Redis, make_settings: MakeSettings, policy: str
) -> None:
    """Revocations would vanish from Redis and from every instance that starts later."""
    client.config_set("maxmemory-policy", policy)
    with pytest.raises(ConfigurationError, match=f"{policy}.*noeviction") as refused:
        async with Engine(make_settings(redis_server.url)):
            pass
    assert "REVOKEBUS_ALLOW_ALLKEYS_EVICTION" in str(refused.value)
    settings = make_settings(redis_server.url, allow_allkeys_eviction=True)
    assert (await audited(settings))["eviction"].level == "warning"


async def test_it_is_refused_when_redis_comes_late_too(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """A Redis that is away at the start would never be looked at."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    redis_server.freeze()
    async with Engine(make_settings(redis_server.url, startup_timeout=0.1)) as engine:
        redis_server.thaw()
        await eventually(lambda: "allkeys-lru" in (engine.status().last_error or ""))
        with pytest.raises(StaleError):
            await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        client.config_set("maxmemory-policy", "noeviction")
        await eventually(lambda: engine.status().state == "fresh")


async def test_a_redis_that_evicts_records_is_warned_of(
    redis_server: RedisServer, client: redis.Redis, make_settings: MakeSettings
) -> None:
    """The default of several managed services would go unnoticed."""
    client.config_set("maxmemory-policy", "volatile-lru")
    found = (await audited(make_settings(redis_server.url)))["eviction"]
    assert (found.level, "noeviction" in found.remedy) == ("warning", True)


async def test_past_evictions_are_warned_of(
    redis_server: RedisServer, client: redis.Redis, make_settings: MakeSettings
) -> None:
    """What was dropped before the policy was mended would be forgotten."""
    client.config_set("maxmemory-policy", "volatile-ttl")
    for number in range(200):
        client.set(f"foreign-{number}", "x" * 1000, ex=100)
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 50_000)
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")
    found = (await audited(make_settings(redis_server.url)))["eviction"]
    assert (found.level, "evicted" in found.message) == ("warning", True)


@pytest.mark.parametrize(("save", "words"), [("", "nothing on disk"), ("60 1", "snapshots only")])
async def test_missing_persistence_is_warned_of(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    save: str,
    words: str,
) -> None:
    """A restart would lose revocations, and nobody would have said so."""
    client.config_set("save", save)
    found = (await audited(make_settings(redis_server.url)))["persistence"]
    assert (found.level, words in found.message) == ("warning", True)


async def test_replicas_and_fencing(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """A split brain would be possible without anybody having been told."""
    settings = make_settings(sentinels.url)
    found = await audited(settings)
    assert (found["replicas"].level, found["fencing"].level) == ("ok", "warning")
    assert "min-replicas-to-write" in found["fencing"].remedy
    with sentinels.client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            assert (await audited(settings))["fencing"].level == "ok"
        finally:
            client.config_set("min-replicas-to-write", 0)


async def test_fewer_replicas_than_the_setting_demands(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """Every revocation would fail, and the reason would have to be guessed."""
    found = (await audited(make_settings(sentinels.url, min_replicas=2)))["replicas"]
    assert (found.level, "REVOKEBUS_MIN_REPLICAS" in found.message) == ("warning", True)


async def test_a_cluster(cluster: ClusterServers, make_settings: MakeSettings) -> None:
    """The audit would fail, or warn of what a cluster does by itself."""
    found = await audited(make_settings(cluster.url))
    assert {found[check].level for check in ("replicas", "fencing", "rights")} == {"ok"}


@pytest.mark.parametrize("ahead", [90.0, -90.0])
async def test_a_wrong_clock(
    redis_server: RedisServer, make_settings: MakeSettings, ahead: float
) -> None:
    """Tokens would be refused too early or too late, and nobody would know why."""
    clock = ManualClock()
    clock.step(ahead)
    settings = make_settings(redis_server.url, startup_timeout=0)
    async with Engine(settings, clock=clock) as engine:
        (found,) = [each for each in await engine.audit() if each.check == "clock"]
    assert found.level == "warning"
    assert ("behind" if ahead > 0 else "ahead of") in found.message
    assert re.search(r"(8\d|9\d)\.\d s", found.message)


async def test_a_short_retention(redis_server: RedisServer, make_settings: MakeSettings) -> None:
    """The log would be shorter than the tokens live."""
    found = (await audited(make_settings(redis_server.url, log_retention=60)))["retention"]
    assert (found.level, "REVOKEBUS_LOG_RETENTION" in found.message) == ("warning", True)


def user(client: redis.Redis, *rules: str) -> str:
    """Make a user with some rights only, and return a URL that logs it in."""
    client.execute_command("ACL SETUSER", "app", "on", ">secret", *rules)  # type: ignore[no-untyped-call]  # redis-py has no annotation
    port = client.connection_pool.connection_kwargs["port"]
    return f"redis://app:secret@127.0.0.1:{port}/0"


def documented_rules() -> list[str]:
    (recipe,) = re.findall(r"ACL SETUSER app on >[^\s]+ (.*)", PROTOCOL.read_text())
    return str(recipe).replace("\\", "").split()


async def test_the_documented_rights_are_enough(
    client: redis.Redis, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """An operator who follows the documentation would be refused at the first revocation."""
    url = user(client, *documented_rules())
    found = await audited(make_settings(url))
    assert found["rights"].level == found["clock"].level == "ok"
    async with Engine(make_settings(url)) as here, Engine(make_settings(url)) as there:
        token = await here.authenticate(here.issue("alice").access_token, AccessToken)
        await eventually(lambda: there.status().subscribed)
        await here.revoke(token, min_replicas=0)
        await eventually(lambda: there.is_revoked({"jti": token.jti}))
        client.flushall()
        await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))
        # Until the hold after the loss has run out, that is the trouble; a lasting one is not.
        await eventually(lambda: here.status().last_error is None)
        await eventually(lambda: there.status().last_error is None)


@pytest.mark.parametrize(
    ("taken", "named"),
    [("-publish", "+publish"), ("-xadd", "+xadd"), ("resetchannels", "+subscribe"), ("-info", "")],
)
async def test_a_missing_right_is_named(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    taken: str,
    named: str,
) -> None:
    """An instance would be deaf, or mute, and nobody would know which right it lacks."""
    async with Engine(make_settings(redis_server.url)):
        pass  # a data set, which the user may not be able to make
    rules = [*documented_rules(), taken]
    async with Engine(make_settings(user(client, *rules), startup_timeout=0.3)) as engine:
        found = {each.check: each for each in await engine.audit()}
    assert found["rights"].level == "warning"
    assert named in found["rights"].message
    assert (found["eviction"].level == "warning") == (taken == "-info")


async def test_no_right_to_run_scripts(client: redis.Redis, make_settings: MakeSettings) -> None:
    """The audit itself would fail, with the error of a script."""
    url = user(client, *documented_rules(), "-eval", "-evalsha")
    async with Engine(make_settings(url, startup_timeout=0.1)) as engine:
        found = {each.check: each for each in await engine.audit()}
    assert "+eval" in found["rights"].message


async def test_what_cannot_be_asked_is_not_called_well(
    client: redis.Redis, make_settings: MakeSettings
) -> None:
    """An operator would read that all is well where nobody could look."""
    url = user(client, *documented_rules(), "-info", "-time", "-config")
    async with Engine(make_settings(url, startup_timeout=0.1)) as engine:
        found = {each.check: each for each in await engine.audit()}
    for check in ("eviction", "persistence", "replicas", "fencing", "clock"):
        assert found[check].level == "warning", check


async def test_fencing_without_a_limit_to_the_lag_is_none(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """Redis takes a lag of 0 for no demand at all."""
    with sentinels.client() as client:
        client.config_set("min-replicas-to-write", 1)
        client.config_set("min-replicas-max-lag", 0)
        try:
            assert (await audited(make_settings(sentinels.url)))["fencing"].level == "warning"
        finally:
            client.config_set("min-replicas-max-lag", 10)
            client.config_set("min-replicas-to-write", 0)


async def test_a_url_that_leads_to_a_replica_is_said(
    sentinels: SentinelServers, make_settings: MakeSettings
) -> None:
    """An instance that never becomes fresh would give no hint why."""
    settings = make_settings(sentinels.replica.url, startup_timeout=0.2)
    async with Engine(settings) as engine:
        found = {each.check: each for each in await engine.audit()}
    assert "leads to a replica" in found["replicas"].message


class WithoutConfig(RedisServer):
    def _command(self, folder: Path) -> list[str]:
        return [*super()._command(folder), "--rename-command", "CONFIG", "NOTHERE"]


async def test_a_service_without_config(redis_binary: str, make_settings: MakeSettings) -> None:
    """A managed service that has removed a command would keep every instance from starting."""
    with WithoutConfig(redis_binary) as server:
        async with Engine(make_settings(server.url)) as engine:
            assert engine.status().state == "fresh"
            found = {each.check: each for each in await engine.audit()}
    assert found["persistence"].level == "warning"


class Answers:
    """The parts of a store whose server answers as told."""

    def __init__(self, error: StoreError) -> None:
        self.error = error
        self.requests = self

    async def ask(self, _: object) -> object:
        raise self.error


async def test_a_busy_server_is_asked_again() -> None:
    """A server that is busy at the start would never be looked at for its eviction policy."""
    busy = RefusedError("Redis: BUSY Redis is busy running a script")
    with pytest.raises(RefusedError):
        await _allowed(cast("StoreParts", Answers(busy)), AsyncMock())
    unknown = RefusedError("Redis: unknown command 'INFO'")
    assert await _allowed(cast("StoreParts", Answers(unknown)), AsyncMock()) is None


async def test_a_service_that_ends_the_connection_on_config() -> None:
    """A proxy that knows no CONFIG would keep every instance from starting."""
    gone = StoreError("Redis: Connection closed by server")
    assert await _setting(cast("StoreParts", Answers(gone)), "save") is None


async def test_a_refused_redis_is_not_written_to(
    redis_server: RedisServer,
    client: redis.Redis,
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """A Redis that comes late and evicts anything would be trusted with revocations."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    redis_server.freeze()
    async with Engine(make_settings(redis_server.url, startup_timeout=0.1)) as engine:
        redis_server.thaw()
        await eventually(lambda: "allkeys-lru" in (engine.status().last_error or ""))
        token = engine.issue("alice").access_token
        with pytest.raises(NotDurableError, match="allkeys-lru"):
            await engine.revoke(token)
        client.config_set("maxmemory-policy", "noeviction")
        await eventually(lambda: engine.status().unsaved == 0)


async def test_memory_needs_no_audit(make_settings: MakeSettings) -> None:
    """A test on memory:// would have to do without it."""
    engine = Engine(make_settings())
    with pytest.raises(NotReadyError):
        await engine.audit()
    async with engine:
        assert await engine.audit() == []


async def test_the_log_names_finding_and_remedy(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    """An operator would have to know that there is an audit to learn what it says."""
    said = r"audit: Redis keeps nothing on disk.*appendonly yes"
    with caplog.at_level(logging.WARNING):
        async with Engine(make_settings(redis_server.url)):
            await eventually(lambda: re.search(said, caplog.text))


async def test_longer_lives_elsewhere_are_warned_of(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """What one of them revokes might be kept for too short, and nobody would know."""
    url = redis_server.url
    longer = make_settings(url, refresh_ttl=90 * 86_400)
    async with Engine(longer) as other, Engine(make_settings(url)) as shorter:
        for each in (shorter, other):  # whoever was there first
            found = {finding.check: finding for finding in await each.audit()}
            assert found["lifetimes"].level == "warning"
    assert (await audited(make_settings(url)))["lifetimes"].level == "ok"


async def test_what_is_tuned_otherwise_is_warned_of(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """One pod that accepts by a stale copy, or ticks once a minute, weakens the promise for all."""
    url = redis_server.url
    changed = make_settings(url, leeway=5, on_stale="accept", tick_interval=0.2, max_staleness=9)
    async with Engine(make_settings(url)) as here, Engine(changed) as there:
        for each in (here, there):
            (found,) = [finding for finding in await each.audit() if finding.check == "tuning"]
            assert found.level == "warning"
            for name in ("leeway", "on_stale", "tick_interval", "max_staleness"):
                assert name in found.message
