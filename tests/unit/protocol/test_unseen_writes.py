from revokebus.protocol import unseen_writes as module
from revokebus.protocol.continuity import Entry
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.unseen_writes import UnseenWrites
from revokebus.protocol.wire import encode_payload

ONE, TWO = Revocation("jti", "1", 1e9), Revocation("jti", "2", 1e9)


def entry(number: int, payload: bytes = b"1 []") -> Entry:
    return Entry((number, 0), payload)


def missed(unseen_writes: UnseenWrites, sent: float) -> list[Revocation]:
    return [each for some in unseen_writes.missed(sent) for each in some]


def test_what_the_log_shows_is_not_missed() -> None:
    """Every write would be written once more."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.seen([entry(5), entry(6)])
    assert missed(unseen_writes, 99.0) == []


def test_what_it_should_have_shown_is_missed_once() -> None:
    """An acknowledged revocation that Redis lost would never be written back."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(6), 20.0, [TWO])
    unseen_writes.seen([entry(4)])
    assert missed(unseen_writes, 15.0) == [ONE]  # the other was acknowledged after the request
    assert missed(unseen_writes, 15.0) == []
    assert missed(unseen_writes, 25.0) == [TWO]


def test_the_same_id_with_other_bytes_is_another_entry() -> None:
    """A lost write would be taken for seen, because another has got its id."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.seen([entry(5, b"1 another")])
    assert missed(unseen_writes, 99.0) == [ONE]


def test_two_writes_of_one_id_are_both_remembered() -> None:
    """After a restored snapshot the next write would cover the memory of one that was lost."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(5, b"1 another"), 20.0, [TWO])
    unseen_writes.seen([entry(5, b"1 another")])
    assert missed(unseen_writes, 99.0) == [ONE]


def test_an_answer_that_comes_after_the_log_was_read_is_not_missed() -> None:
    """Under load, writes would be taken for lost that the log has shown."""
    unseen_writes = UnseenWrites()
    unseen_writes.seen([entry(5), entry(6)])
    unseen_writes.remember(entry(6), 10.0, [ONE])
    assert missed(unseen_writes, 99.0) == []


def test_a_comparison_settles_what_came_before_it() -> None:
    """A repair would be done again; or a write during the comparison be forgotten."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 10.0, [ONE])
    unseen_writes.remember(entry(7), 30.0, [TWO])
    assert list(unseen_writes.compared(20.0, (6, 0))) == []
    assert missed(unseen_writes, 99.0) == [TWO]
    unseen_writes.remember(entry(6), 40.0, [ONE])
    assert missed(unseen_writes, 99.0) == []


def test_more_than_can_be_remembered_is_said() -> None:
    """Where the log cannot be read for long, the memory would fill; or writes be forgotten."""
    unseen_writes = UnseenWrites()
    for number in range(module._MOST + 5):
        unseen_writes.remember(entry(number + 1), 10.0, [ONE])
    assert not unseen_writes.complete
    assert len(unseen_writes._writes) == module._MOST
    assert list(unseen_writes.compared(20.0, (1, 0))) == []
    assert unseen_writes.complete


def test_what_was_heard_must_be_in_the_log_as_well() -> None:
    """The writer and Redis die within a tick: others know what nobody would write back."""
    unseen_writes = UnseenWrites()
    heard = entry(5, encode_payload([ONE]))
    unseen_writes.hear(heard, 10.0)
    unseen_writes.hear(entry(6, encode_payload([TWO])), 20.0)
    unseen_writes.hear(entry(7, b"a stranger's"), 10.0)
    unseen_writes.seen([entry(4)])
    assert missed(unseen_writes, 15.0) == [ONE]
    unseen_writes.seen([entry(6, encode_payload([TWO]))])
    assert missed(unseen_writes, 99.0) == []


def test_what_is_heard_takes_bounded_room() -> None:
    """Whoever may publish could fill the memory of every instance."""
    unseen_writes = UnseenWrites()
    for number in range(100):
        unseen_writes.hear(entry(number + 1, b"x" * 1_000_000), 10.0)
    assert len(unseen_writes._writes) == 4
    assert unseen_writes.complete  # what is not remembered is found by comparing
    assert list(unseen_writes.compared(20.0, (200, 0))) == []
    unseen_writes.hear(entry(300, b"x" * 1_000_000), 30.0)
    assert len(unseen_writes._writes) == 1


def test_what_came_while_everything_was_listed_is_no_loss() -> None:
    """Each listing under load would call the latest log-outs lost, and hold the fleet."""
    unseen_writes = UnseenWrites()
    unseen_writes.remember(entry(5), 20.5, [ONE])  # after the listing began, before its position
    unseen_writes.remember(entry(8), 20.6, [TWO])
    between = [each for some in unseen_writes.compared(20.0, (6, 0)) for each in some]
    assert between == [ONE]
    assert missed(unseen_writes, 99.0) == [TWO]


def test_the_memory_for_long_writes_is_bounded() -> None:
    """What Redis has lost is written back by an instance that needs as much memory again for it."""
    unseen_writes, batch = UnseenWrites(), [ONE] * 10_000
    for number in range(9):
        unseen_writes.remember(entry(number + 1), 1.0, batch)
    assert not unseen_writes.complete
    assert sum(map(len, unseen_writes.missed(2.0))) == module._MOST_REVOCATIONS
    unseen_writes.remember(entry(20), 3.0, batch)
    assert sum(map(len, unseen_writes.missed(4.0))) == len(batch)  # there is room again
