from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from revokebus.telemetry.counters import PROPAGATION_BOUNDS, Histogram


@given(st.lists(st.floats(0, 100) | st.sampled_from(PROPAGATION_BOUNDS)))
def test_a_histogram_counts_what_is_at_most_each_bound(values: list[float]) -> None:
    """A quantile on the dashboard would be wrong, and nobody would know."""
    histogram = Histogram(PROPAGATION_BOUNDS)
    for value in values:
        histogram.observe(value)
    *counted, every = histogram.cumulative()
    assert counted == [sum(value <= bound for value in values) for bound in PROPAGATION_BOUNDS]
    assert every == len(values)
    assert abs(histogram.total - sum(values)) < 1e-6
