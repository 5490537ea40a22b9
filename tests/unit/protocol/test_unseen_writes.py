from revokebus.protocol import unseen_writes as acknowledged_module
from revokebus.protocol.continuity import Row
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.unseen_writes import Acknowledged

ONE, TWO = Revocation("jti", "1", 1e9), Revocation("jti", "2", 1e9)


def row(number: int, payload: bytes = b"1 []") -> Row:
    return Row((number, 0), payload)


def test_what_the_log_shows_is_not_missed() -> None:
    """Every write would be written once more."""
    acknowledged = Acknowledged()
    acknowledged.remember(row(5), 10.0, [ONE])
    acknowledged.seen([row(5), row(6)])
    assert acknowledged.missed(99.0) == []


def test_what_it_should_have_shown_is_missed_once() -> None:
    """An acknowledged revocation that Redis lost would never be written back."""
    acknowledged = Acknowledged()
    acknowledged.remember(row(5), 10.0, [ONE])
    acknowledged.remember(row(6), 20.0, [TWO])
    acknowledged.seen([row(4)])
    assert acknowledged.missed(15.0) == [ONE]  # the other was acknowledged after the request
    assert acknowledged.missed(15.0) == []
    assert acknowledged.missed(25.0) == [TWO]


def test_the_same_id_with_other_bytes_is_another_row() -> None:
    """A lost write would be taken for seen, because another has got its id."""
    acknowledged = Acknowledged()
    acknowledged.remember(row(5), 10.0, [ONE])
    acknowledged.seen([row(5, b"1 another")])
    assert acknowledged.missed(99.0) == [ONE]


def test_an_answer_that_comes_after_the_log_was_read_is_not_missed() -> None:
    """Under load, writes would be taken for lost that the log has shown."""
    acknowledged = Acknowledged()
    acknowledged.seen([row(5), row(6)])
    acknowledged.remember(row(6), 10.0, [ONE])
    assert acknowledged.missed(99.0) == []


def test_a_comparison_settles_what_came_before_it() -> None:
    """A repair would be done again; or a write during the comparison be forgotten."""
    acknowledged = Acknowledged()
    acknowledged.remember(row(5), 10.0, [ONE])
    acknowledged.remember(row(7), 30.0, [TWO])
    acknowledged.compared(20.0, (6, 0))
    assert acknowledged.missed(99.0) == [TWO]
    acknowledged.remember(row(6), 40.0, [ONE])
    assert acknowledged.missed(99.0) == []


def test_more_than_can_be_remembered_is_said() -> None:
    """Where the log cannot be read for long, the memory would fill; or writes be forgotten."""
    acknowledged = Acknowledged()
    for number in range(acknowledged_module._MOST + 5):
        acknowledged.remember(row(number + 1), 10.0, [ONE])
    assert not acknowledged.complete
    assert len(acknowledged._writes) == acknowledged_module._MOST
    acknowledged.compared(20.0, (1, 0))
    assert acknowledged.complete
