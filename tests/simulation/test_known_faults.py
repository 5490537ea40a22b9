"""Faults that once broke a promise on real servers, each as a history of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.faults import Event
from tests.simulation.history import Plan, run
from tests.simulation.world import READS

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS: dict[str, Any] = {"max_staleness": 2.0, "access_ttl": 900, "refresh_ttl": 3600.0}
_ALONE = Plan(
    seed=1,
    topology="single",
    settings=[_SETTINGS] * 3,
    seconds=8.0,
    pause=0.05,
    latency=0.0002,
)
_FIRST, _LAST = 0, 2
_RECORD, _LOG = 5, 1


def _event(at: float, kind: str, lasts: float = 0.0, which: int = 0, amount: float = 0.5) -> Event:
    return Event(at, lasts, kind, which, amount)


def _plan(*events: Event, **changes: Any) -> Plan:
    return replace(_ALONE, events=sorted(events, key=lambda event: event.at), **changes)


_READER = {**_SETTINGS, "max_staleness": 4.0, READS: True}
_SLOW_TICKS = {**_SETTINGS, "tick_interval": 5.0, "max_staleness": 12.0}

KNOWN: Mapping[str, Plan] = {
    "a record is deleted by hand": _plan(_event(1, "delete", which=_RECORD)),
    "a record is deleted, and an instance starts at once": _plan(
        _event(1, "delete", which=_RECORD), _event(1.1, "restart_instance", which=_LAST)
    ),
    "records evicted, and the log lost": _plan(
        *(_event(1 + n / 10, "delete", which=_RECORD, amount=n / 10) for n in range(9)),
        _event(2, "delete", which=_LOG),
        _event(2.1, "restart_instance", which=_LAST),
    ),
    "records evicted after an empty restart, while one is cut off": _plan(
        _event(0, "lose_answers", lasts=2, which=1),
        _event(0.6, "empty_server", lasts=0.1),
        _event(1.9, "evict", lasts=0.1, amount=0.6),
        settings=[{**_SETTINGS, "tick_interval": 0.2, "max_staleness": 4.0}] * 3,
    ),
    "an old snapshot, and no room for a hold": _plan(
        _event(0.5, "save"),
        _event(2, "fill", lasts=5),
        _event(2.5, "old_server", lasts=0.1),
        _event(3, "restart_instance", which=_LAST),
        _event(4, "restart_instance", which=_LAST),
    ),
    "an old snapshot, and no room for what is to be written back": _plan(
        _event(0.5, "save"),
        _event(2, "fill", lasts=6),
        _event(2.5, "old_server", lasts=0.1),
        _event(4.5, "restart_instance", which=_LAST),
    ),
    "a name leads to another server, which the former follows too late": _plan(
        _event(1, "lag", lasts=6),
        _event(1, "fail_over"),
        topology="address",
        settings=[_SETTINGS] * 6,
        pause=1.0,
        seed=3,
    ),
    "a primary is alone with some instances": _plan(
        _event(1, "part", lasts=4), topology="sentinel", latency=0.002, pause=0.02
    ),
    "the same, and the primary accepts no writes without a replica": _plan(
        _event(1, "part_fenced", lasts=4), topology="sentinel", latency=0.002, pause=0.02
    ),
    "a primary is deposed, and is it again a moment later": _plan(
        _event(3, "fail_over"),
        _event(3.05, "empty_server", lasts=1.8),
        topology="sentinel",
        latency=0.02,
        pause=0.02,
    ),
    "an old snapshot, and no disk": _plan(
        _event(2, "save"),
        _event(2, "cut_subscribers"),
        _event(2.1, "cannot_save", lasts=5.9),
        _event(2.1, "old_server", lasts=0.05),
        topology="cluster",
        latency=0.002,
        pause=0.01,
    ),
    "a primary without replicas": _plan(
        _event(1, "fence", lasts=6), topology="sentinel", latency=0.002
    ),
    "the same in a cluster": _plan(
        _event(1, "part", lasts=4), topology="cluster", latency=0.002, pause=0.02
    ),
    "an instance starts while others revoke": _plan(
        _event(1, "kill_instance", lasts=0.25, which=_LAST),
        latency=0.02,
        pause=0.01,
        settings=[{**_SETTINGS, "max_staleness": 4.0}] * 3,
    ),
    "ids ahead of the clock are given out twice": _plan(
        _event(0.5, "step_server", lasts=0.5, amount=0.502),
        _event(2.0, "save"),
        _event(2.3, "old_server", lasts=0.01),
        _event(5, "restart_instance", which=_LAST),
        pause=0.15,
    ),
    "FLUSHALL, and who knows most ticks every five seconds": _plan(
        _event(2, "restart_instance", which=1),
        _event(2, "restart_instance", which=2),
        _event(2.01, "flush"),
        settings=[_SLOW_TICKS, _SETTINGS, _SETTINGS],
        fresh_within=8.0,  # for as long as the slowest may take to notice
    ),
    "an old snapshot, and who knows most is 200 ms away": _plan(
        _event(0, "slow", lasts=7.9, amount=4 / 3),
        _event(5, "save"),
        _event(6, "old_server", lasts=0.05),
        _event(6.01, "restart_instance", which=1),
        _event(6.01, "restart_instance", which=2),
        settings=[{**_SETTINGS, "max_staleness": 4.0, "redis_timeout": 2.4}] * 3,
        fresh_within=7.0,  # likewise
    ),
    "the author and Redis die within a tick": _plan(
        _event(1, "save"),
        _event(2, "kill_instance", lasts=1, which=_FIRST),
        _event(2.001, "old_server", lasts=0.05),
        pause=0.01,
    ),
    "an instance starts with its clock an hour ahead": _plan(
        _event(1, "step_instance", lasts=2, which=_LAST, amount=1.1),
        _event(1.1, "restart_instance", which=_LAST),
    ),
    "the same, and Redis is frozen when it is set right": _plan(
        _event(1, "step_instance", lasts=2, which=_LAST, amount=1.1),
        _event(1.1, "restart_instance", which=_LAST),
        _event(2.9, "freeze_server", lasts=2.5),
    ),
    "the same process has older data": _plan(
        _event(1, "save"),
        _event(3, "reload"),
        _event(3.0005, "restart_instance", which=_LAST),
        pause=0.02,
        seed=13,
    ),
    "the same process has older data, and gives ids out twice": _plan(
        _event(0.5, "step_server", lasts=0.5, amount=0.502),
        _event(2.0, "save"),
        _event(2.25, "reload"),
        pause=0.2,
    ),
    "Redis is full for a while": _plan(_event(1, "fill", lasts=2)),
    "a primary is frozen until it is replaced": _plan(
        _event(1, "freeze_server", lasts=2.5), topology="sentinel", latency=0.02, pause=0.02
    ),
    "a primary comes back empty, and does not know that it is none": _plan(
        _event(1, "empty_server", lasts=2), topology="sentinel", latency=0.002, pause=0.02
    ),
    "the lock of repairs without an end": _plan(_event(1, "orphan_repair")),
    "260 ms there and back": _plan(_event(1, "reset_all"), topology="address", latency=0.13),
    "170 ms, with a password and a database": _plan(_event(1, "reset_all"), latency=0.085),
    "Sentinels, 200 ms there and back": _plan(
        _event(1, "reset_all"),
        topology="sentinel",
        latency=0.1,
        settings=[{**_SETTINGS, "max_staleness": 4.0, "redis_timeout": 1.5}] * 3,
    ),
    "a way that was short becomes long": _plan(
        _event(0, "slow", lasts=4, amount=0.09),
        topology="cluster",
        latency=0.15,
        settings=[{**_SETTINGS, "max_staleness": 5.0, "redis_timeout": 1.8}] * 3,
    ),
    "a way that is short for a second": _plan(
        _event(1, "slow", lasts=1, amount=0.066, which=2),
        topology="cluster",
        latency=0.15,
        settings=[{**_SETTINGS, "max_staleness": 5.0, "redis_timeout": 1.8}] * 3,
    ),
    "a cluster, 200 ms there and back": _plan(
        _event(1, "reset_all"),
        topology="cluster",
        latency=0.1,
        settings=[{**_SETTINGS, "max_staleness": 4.0, "redis_timeout": 1.5}] * 3,
    ),
    "a meta key of another type": _plan(_event(1, "wrong_type", which=0)),
    "the same, and a name leads to another server": _plan(
        _event(0.697, "wrong_type", which=0),
        _event(0.897, "fail_over"),
        topology="address",
        settings=[_SLOW_TICKS] * 3,
        latency=0.02,
        pause=0.5,
    ),
    "the replica that is read is cut off": _plan(
        _event(3, "lag", lasts=4), topology="replica", settings=[_READER] * 3, pause=0.02
    ),
    "the replica that is read is frozen": _plan(
        _event(3, "freeze_replica", lasts=4), topology="sentinel", settings=[_READER] * 3
    ),
    "the replica that is read starts again, with nothing": _plan(
        _event(3, "restart_replica", lasts=1), topology="cluster", settings=[_READER] * 3
    ),
    "the replica that is read becomes the primary": _plan(
        _event(3, "fail_over"), topology="cluster", settings=[_READER] * 3, pause=0.02
    ),
    "the primary is frozen while its replica is read": _plan(
        _event(3, "freeze_server", lasts=2.5), topology="sentinel", settings=[_READER] * 3
    ),
    "the primary is alone, and another one's replica is read": _plan(
        _event(3, "part", lasts=4), topology="sentinel", settings=[_READER] * 4, pause=0.02
    ),
    "the replica that is read is behind, and the clock of the primary jumps": _plan(
        _event(2, "delay", lasts=6, amount=0.44),
        *(_event(3 + n, "nudge_server", lasts=0.9, amount=0.7) for n in range(4)),
        topology="replica",
        settings=[_READER] * 3,
        pause=0.02,
    ),
    "the replica that is read is behind, and the clock of the primary is set back": _plan(
        _event(2, "delay", lasts=6, amount=0.44),
        *(_event(3 + n, "nudge_server", lasts=0.9, amount=0.3) for n in range(4)),
        topology="replica",
        settings=[_READER] * 3,
        pause=0.02,
    ),
    "everything is lost while the replica is far behind, and who knows most reads there": _plan(
        _event(2, "delay", lasts=6, amount=0.95),
        _event(3.96, "kill_instance", lasts=0.1, which=1),
        _event(3.96, "kill_instance", lasts=0.1, which=2),
        _event(4, "flush"),
        topology="replica",
        settings=[{**_READER, "max_staleness": 15.0}] * 3,
        pause=0.6,
        fresh_within=6.0,  # for as long as it may take to notice
    ),
    "everything is lost while the replica is cut off, and who knows most reads there": _plan(
        _event(3.95, "lag", lasts=4),
        _event(3.96, "kill_instance", lasts=0.1, which=1),
        _event(3.96, "kill_instance", lasts=0.1, which=2),
        _event(4, "flush"),
        topology="replica",
        settings=[_READER] * 3,
        pause=0.6,
        fresh_within=6.0,  # for as long as it may take to notice
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_it_breaks_no_promise_any_more(name: str) -> None:
    """A token would be accepted that was revoked, as it once was."""
    outcome = run(KNOWN[name])
    assert not outcome.violations, [str(each) for each in outcome.violations]
    assert outcome.acknowledged > 5
    assert math.isfinite(outcome.seconds)
