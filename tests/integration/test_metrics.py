"""What is counted, what is traced, what is logged: and that the dashboard shows what there is."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.errors import InvalidTokenError, NotDurableError, RevokedTokenError
from revokebus.metrics import BusCollector
from revokebus.telemetry.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

ROOT = Path(__file__).parents[2]
OPERATE = ROOT / "examples" / "operate"


def scrape(bus: Engine) -> dict[tuple[str, str], float]:
    """Return each sample by its name and the value of its label, as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(BusCollector(bus))
    text = generate_latest(registry).decode()
    found: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
    return found


def headers_of(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode())]


async def test_checks_are_counted_by_outcome(make_settings: MakeSettings) -> None:
    """Nobody would see that one request in ten is refused, and why."""
    async with Engine(make_settings()) as bus:
        pair = bus.issue("alice")
        token = await bus.authenticate(pair.access_token, AccessToken)
        await bus.authenticate(pair.access_token, AccessToken)
        assert bus.cached_token(headers_of(pair.access_token), AccessToken) is token
        with pytest.raises(InvalidTokenError):
            await bus.authenticate("nonsense", AccessToken)
        with pytest.raises(InvalidTokenError):
            await bus.authenticate(pair.refresh_token, AccessToken)
        await bus.revoke(token)
        assert bus.cached_token(headers_of(pair.access_token), AccessToken) is None
        with pytest.raises(RevokedTokenError):
            await bus.authenticate(pair.access_token, AccessToken)
        found = scrape(bus)
    checks = {label: found[name, label] for name, label in found if name.endswith("checks_total")}
    assert checks == {"accepted": 3, "invalid": 1, "wrong_type": 1, "revoked": 1}
    assert found["revokebus_cache_hits_total", ""] == 3  # twice known, once recalled
    assert found["revokebus_entries", ""] == 1
    assert found["revokebus_state", "fresh"] == 1
    assert found["revokebus_state", "stale"] == 0


async def test_stale_refusals_are_counted(make_settings: MakeSettings) -> None:
    """An outage of Redis would look like an attack."""
    bus = Engine(make_settings())
    pair = bus.issue("alice")
    with pytest.raises(Exception, match="not running"):
        await bus.authenticate(pair.access_token, AccessToken)
    assert scrape(bus)["revokebus_checks_total", "not_ready"] == 1
    assert ("revokebus_staleness_seconds", "") in scrape(bus)


async def test_what_happens_to_the_copy_is_counted(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A fleet that loses its subscriptions all day would look well."""
    author, other = fleet[:2]
    token = await author.authenticate(author.issue("alice").access_token, AccessToken)
    await author.revoke(token)
    await eventually(lambda: other.counts.propagation.cumulative()[-1] == 1)
    found = scrape(other)
    assert found["revokebus_propagation_seconds_count", ""] == 1
    assert 0 <= found["revokebus_propagation_seconds_sum", ""] < 60
    assert found["revokebus_ticks_total", "proven"] >= 1
    assert found["revokebus_subscriptions_total", ""] == 1

    client.publish("{revokebus}:ch", "nonsense")
    await eventually(lambda: scrape(other)["revokebus_rejected_total", "message_foreign"] == 1)

    for each in client.client_list(_type="pubsub"):
        client.client_kill_filter(_id=each["id"])
    await eventually(lambda: scrape(other)["revokebus_subscriptions_total", ""] == 2)

    client.flushall()
    await eventually(lambda: scrape(other)["revokebus_resyncs_total", "epoch_changed"] >= 1)
    await eventually(
        lambda: sum(scrape(each)["revokebus_repairs_total", ""] for each in fleet) >= 1
    )


async def test_failed_writes_are_counted(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """Log-outs that Redis never recorded would be seen by their users only."""
    async with Engine(make_settings(redis_server.url)) as bus:
        token = await bus.authenticate(bus.issue("alice").access_token, AccessToken)
        redis_server.stop()
        with pytest.raises(NotDurableError):
            await bus.revoke(token)
        await eventually(lambda: scrape(bus)["revokebus_ticks_total", "failed"] >= 1)
        found = scrape(bus)
        redis_server.start()
    assert found["revokebus_write_failures_total", ""] == 1
    assert found["revokebus_unsaved", ""] == 1
    assert found["revokebus_subscribed", ""] == 0


async def test_two_buses_in_one_registry_are_refused(make_settings: MakeSettings) -> None:
    """The numbers of two applications would be taken for one's."""
    registry = CollectorRegistry()
    registry.register(BusCollector(Engine(make_settings())))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(BusCollector(Engine(make_settings())))


@pytest.fixture(scope="session")
def exporter() -> Iterator[InMemorySpanExporter]:
    """OpenTelemetry's SDK, which can be set up once in a process."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


async def test_a_revocation_is_a_span(
    exporter: InMemorySpanExporter, redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A slow log-out could not be told from a slow database in a trace."""
    exporter.clear()
    async with Engine(make_settings(redis_server.url)) as bus:
        encoded = bus.issue("alice").access_token
        receipt = await bus.revoke(encoded, confirm="fleet")
        redis_server.stop()
        with pytest.raises(NotDurableError):
            await bus.revoke_subject("bob")
        redis_server.start()
    well, failed = exporter.get_finished_spans()
    assert (well.name, dict(well.attributes or {})) == (
        "revokebus.revoke",
        {
            "revokebus.revocations": 1,
            "revokebus.position": receipt.position,
            "revokebus.confirmed": True,
        },
    )
    assert not failed.status.is_ok
    assert encoded not in well.to_json() + failed.to_json()


def logger_calls() -> list[tuple[str, ast.Call]]:
    return [
        (f"{path.name}:{node.lineno}", node)
        for path in sorted((ROOT / "revokebus").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")
    ]


def test_every_log_record_has_a_documented_event() -> None:
    """An alert on a log line would end with the next change of its words."""
    used = set()
    for where, call in logger_calls():
        extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
        assert isinstance(extra, ast.Call), where
        name = extra.args[0]
        assert isinstance(name, ast.Constant), where
        used.add(name.value)
    assert used == set(get_args(Event))
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^\| `revokebus\.(\w+)` \|", page, re.MULTILINE)) == used


async def test_a_log_record_carries_its_event(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A structured log would have the text only."""
    with caplog.at_level(logging.INFO, "revokebus"):
        async with Engine(make_settings()) as bus:
            await bus.revoke_subject("alice")
    own = [record for record in caplog.records if record.name == "revokebus"]
    events = {vars(record).get("event") for record in own}
    assert events == {"revokebus.memory_not_shared", "revokebus.revoked"}
    assert "alice" not in caplog.text


def names_in(expressions: list[str]) -> set[str]:
    return {name for each in expressions for name in re.findall(r"\brevokebus_\w+", each)}


def exported_names(bus: Engine) -> set[str]:
    return {name for name, _ in scrape(bus)}


def queries(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["expr"]] if isinstance(value.get("expr"), str) else []
        return own + [query for each in value.values() for query in queries(each)]
    if isinstance(value, list):
        return [query for each in value for query in queries(each)]
    return []


async def test_dashboard_and_alerts_ask_for_what_there_is(
    fleet: list[Engine], eventually: Eventually
) -> None:
    """A panel would stay empty, and an alert silent, on the day when it is needed."""
    bus = fleet[0]
    await bus.revoke_subject("alice")
    await eventually(lambda: bus.counts.propagation.cumulative()[-1] >= 1)
    bus.counts.checks["accepted"] += 1
    bus.counts.resyncs["row_missing"] += 1
    bus._backend._started.run.conditions.ignore("message", "foreign")  # type: ignore[attr-defined]  # a RedisBackend's
    exported = exported_names(bus)
    dashboard = queries(json.loads((OPERATE / "grafana-dashboard.json").read_text()))
    alerts = queries(yaml.safe_load((OPERATE / "prometheus-alerts.yml").read_text()))
    assert len(dashboard) >= 8
    assert len(alerts) >= 6
    assert names_in(dashboard) <= exported
    assert names_in(alerts) <= exported
    page = (ROOT / "docs" / "monitoring.md").read_text()
    documented = set(re.findall(r"^\| `(revokebus_\w+)", page, re.MULTILINE))
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exported}
    assert documented == families
