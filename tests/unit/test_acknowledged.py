from revokebus.acknowledged import Acknowledged
from revokebus.continuity import Row
from revokebus.revocation import Revocation

ONE, TWO = Revocation("jti", "1", 1e9), Revocation("jti", "2", 1e9)


def test_what_the_log_shows_is_not_missed() -> None:
    """Every write would be written once more."""
    acknowledged = Acknowledged()
    acknowledged.remember((5, 0), 10.0, [ONE])
    acknowledged.seen([Row((5, 0), b""), Row((6, 0), b"")])
    assert acknowledged.missed(99.0) == []


def test_what_it_should_have_shown_is_missed_once() -> None:
    """An acknowledged revocation that Redis lost would never be written back."""
    acknowledged = Acknowledged()
    acknowledged.remember((5, 0), 10.0, [ONE])
    acknowledged.remember((6, 0), 20.0, [TWO])
    acknowledged.seen([Row((4, 0), b"")])
    assert acknowledged.missed(15.0) == [ONE]  # the other was acknowledged after the request
    assert acknowledged.missed(15.0) == []
    assert acknowledged.missed(25.0) == [TWO]


def test_a_comparison_settles_everything() -> None:
    """A repair that is done already would be done again."""
    acknowledged = Acknowledged()
    acknowledged.remember((5, 0), 10.0, [ONE])
    acknowledged.clear()
    assert acknowledged.missed(99.0) == []
