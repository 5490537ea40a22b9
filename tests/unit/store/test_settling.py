"""For how long nothing is proven after Redis was found to be new."""

from __future__ import annotations

from revokebus.settings.settings import Settings
from revokebus.store.settling import pause_after_failure, settling_milliseconds, tick_interval
from tests.support import SECRET


def test_a_hold_lasts_until_a_large_fleet_has_noticed() -> None:
    """A flushed Redis would be believed before all who know more have looked."""
    settings = Settings(redis_url="redis://127.0.0.1:1", secret_key=SECRET)
    assert settling_milliseconds(settings) == 1_050
    for instances in (1, 1_000, 10_000, 1_000_000):
        hold = settling_milliseconds(settings, instances) / 1000
        assert hold >= 1.1 * tick_interval(settings, instances) + 0.5
        assert hold >= pause_after_failure(instances) + 0.5
        assert hold <= settings.max_staleness / 4
