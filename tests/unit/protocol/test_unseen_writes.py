from revokebus.protocol import unseen_writes as module
from revokebus.protocol.continuity import Entry
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.unseen_writes import UnseenWrites

ONE, TWO = Revocation("jti", "1", 1e9), Revocation("jti", "2", 1e9)


def entry(number: int, payload: bytes = b"1 []") -> Entry:
    return Entry((number, 0), payload)


def test_what_the_log_shows_is_not_missed() -> None:
    """Every write would be written once more."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.seen([entry(5), entry(6)])
    assert unseen_writes.missed(99.0) == []


def test_what_it_should_have_shown_is_missed_once() -> None:
    """An acknowledged revocation that Redis lost would never be written back."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(6), 20.0, [TWO])
    unseen_writes.seen([entry(4)])
    assert unseen_writes.missed(15.0) == [ONE]  # the other was acknowledged after the request
    assert unseen_writes.missed(15.0) == []
    assert unseen_writes.missed(25.0) == [TWO]


def test_the_same_id_with_other_bytes_is_another_entry() -> None:
    """A lost write would be taken for seen, because another has got its id."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.seen([entry(5, b"1 another")])
    assert unseen_writes.missed(99.0) == [ONE]


def test_two_writes_of_one_id_are_both_remembered() -> None:
    """After a restored snapshot the next write would cover the memory of one that was lost."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(5, b"1 another"), 20.0, [TWO])
    unseen_writes.seen([entry(5, b"1 another")])
    assert unseen_writes.missed(99.0) == [ONE]


def test_an_answer_that_comes_after_the_log_was_read_is_not_missed() -> None:
    """Under load, writes would be taken for lost that the log has shown."""
    unseen_writes = UnseenWrites()
    unseen_writes.seen([entry(5), entry(6)])
    unseen_writes.remember(entry(6), 10.0, [ONE])
    assert unseen_writes.missed(99.0) == []


def test_a_comparison_settles_what_came_before_it() -> None:
    """A repair would be done again; or a write during the comparison be forgotten."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(7), 30.0, [TWO])
    unseen_writes.compared(20.0, (6, 0))
    assert unseen_writes.missed(99.0) == [TWO]
    unseen_writes.remember(entry(6), 40.0, [ONE])
    assert unseen_writes.missed(99.0) == []


def test_more_than_can_be_remembered_is_said() -> None:
    """Where the log cannot be read for long, the memory would fill; or writes be forgotten."""
    unseen_writes = UnseenWrites()
    for number in range(module._MOST + 5):
        unseen_writes.remember(entry(number + 1), 10.0, [ONE])
    assert not unseen_writes.complete
    assert len(unseen_writes._writes) == module._MOST
    unseen_writes.compared(20.0, (1, 0))
    assert unseen_writes.complete
