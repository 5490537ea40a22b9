from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from revokebus.protocol.cut_offs import CutOffs
from revokebus.protocol.revocation import Revocation, is_refused

if TYPE_CHECKING:
    from revokebus.testing import ManualClock


def cut_off(at: float | None) -> Revocation:
    return Revocation("sub", "somebody", 4e9, at)


@pytest.mark.parametrize(("leeway", "ahead"), [(0, 0.5), (0, -5.0), (30, 60.5), (30, 20.0)])
def test_a_sign_in_is_put_after_a_cut_off_that_is_a_little_ahead(
    clock: ManualClock, leeway: float, ahead: float
) -> None:
    """A sign-in right after a sign-out would be refused."""
    cut_offs = CutOffs(clock, leeway)
    at = clock.wall() + ahead
    cut_offs.note(cut_off(at))
    cut_offs.note(cut_off(at - 10))  # the latest counts
    cut_offs.note(cut_off(None))  # not one at all
    put = cut_offs.after(clock.wall())
    assert not is_refused(put, at)
    assert put == clock.wall() or ahead > 0


def test_one_that_is_far_ahead_does_not_count(clock: ManualClock) -> None:
    """One instance with a wrong clock would keep the others from putting anything in order."""
    cut_offs = CutOffs(clock, 5)
    good = clock.wall() + 8
    cut_offs.note(cut_off(good))
    for stray in (60, 3600, 1e6):
        cut_offs.note(cut_off(clock.wall() + stray))
    assert good < cut_offs.after(clock.wall()) < good + 0.1


def test_it_goes_by_the_wall_clock(clock: ManualClock) -> None:
    """After a machine's clock was set right by hours, every sign-out would lock its user out."""
    cut_offs = CutOffs(clock, 5)
    clock.step(4 * 3600)
    cut_offs.note(cut_off(clock.wall() + 5))
    assert cut_offs.after(clock.wall()) > clock.wall() + 5
    clock.step(-4 * 3600)
    assert cut_offs.after(clock.wall()) == clock.wall()
