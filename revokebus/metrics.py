"""What a bus counts, for Prometheus. Needs the extra ``revokebus[metrics]``.

``REGISTRY.register(BusCollector(bus))``. Nothing happens in between two scrapes: a request is
counted as a plain number, and made a metric when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from revokebus.engine.engine import Engine
    from revokebus.results import BusStatus

_STATES = ("starting", "fresh", "stale", "closed")


class BusCollector(Collector):
    """Tells a Prometheus registry what one bus has counted.

    Args:
        bus: The bus; it need not run yet. Of several in a process each needs a registry.
    """

    def __init__(self, bus: Engine) -> None:
        self._bus = bus

    def describe(self) -> Iterable[Metric]:
        """Return the names, so that a second one for the same registry is refused."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._checks()
        yield from _copy(self._bus.status())
        yield from self._upkeep()
        yield self._propagation()

    def _checks(self) -> Iterator[Metric]:
        counters = self._bus.counts
        checks = dict(counters.checks)
        checks["accepted"] = checks.get("accepted", 0) + counters.recalled
        yield _counter("checks", "Checks of tokens, by outcome.", "outcome", checks)
        yield _single(
            "replays", "Refresh tokens used again, each of which ended a session.", counters.replays
        )
        yield _single("cache_hits", "Checks that needed no signature.", _hits(self._bus))

    def _upkeep(self) -> Iterator[Metric]:
        counters, ignored = self._bus.counts, self._bus.status().ignored
        yield _counter("ticks", "Looks at the log, by outcome.", "outcome", counters.ticks)
        yield _single("gaps", "Messages that did not follow the one before.", counters.gaps)
        yield _counter(
            "resyncs", "Listings after the first, by reason.", "reason", counters.resyncs
        )
        yield _single("repairs", "Revocations written back to Redis.", counters.repaired)
        yield _single(
            "subscriptions",
            "Subscriptions made; more than one are reconnects.",
            counters.subscriptions,
        )
        yield _counter(
            "rejected", "Messages, rows and records of strangers, by kind.", "kind", ignored
        )
        yield _single(
            "write_failures",
            "Writes that were not durable when asked for.",
            counters.write_failures,
        )

    def _propagation(self) -> Metric:
        histogram = self._bus.counts.propagation
        bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        family = HistogramMetricFamily(
            "revokebus_propagation_seconds",
            "From a revocation's record in Redis until it was applied here, by two clocks.",
        )
        buckets = list(zip(bounds, map(float, histogram.cumulative()), strict=True))
        family.add_metric([], buckets, sum_value=histogram.total)
        return family


def _hits(bus: Engine) -> int:
    return bus.counts.recalled + bus.counts.cache_hits


def _copy(status: BusStatus) -> Iterator[Metric]:
    state = GaugeMetricFamily("revokebus_state", "1 for the state of the copy.", labels=["state"])
    for each in _STATES:
        state.add_metric([each], float(each == status.state))
    yield state
    age = GaugeMetricFamily(
        "revokebus_staleness_seconds", "Since the copy was proven complete; none before that."
    )
    if status.staleness is not None:
        age.add_metric([], status.staleness)
    yield age
    skew = GaugeMetricFamily(
        "revokebus_clock_skew_seconds",
        "By how much Redis's clock is ahead of this one; none where that is not known.",
    )
    if status.clock_skew is not None:
        skew.add_metric([], status.clock_skew)
    yield skew
    yield _gauge("entries", "Revocations in the copy.", status.entries)
    yield _gauge("unsaved", "Revocations applied here and not yet in Redis.", status.unsaved)
    yield _gauge("subscribed", "1 while revocations are pushed.", status.subscribed)
    yield _gauge("complete", "1 while the copy has room for every revocation.", status.complete)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"revokebus_{name}", text, value=float(value))


def _single(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"revokebus_{name}", text, value=float(value))


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"revokebus_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], float(value))
    return family
