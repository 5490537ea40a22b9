from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist, Probe
from revokebus.protocol.revocation import Kept, Revocation
from revokebus.protocol.wire import decode_payload, encode_payload, plain_rows
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from revokebus.denylist.table import Table


def test_an_entry_matches_its_claim_and_value_only(clock: ManualClock) -> None:
    """Revoking one user's token would sign out another, or not sign out the one."""
    denylist = Denylist(ExpiryClock(clock))
    assert denylist.add(Revocation("jti", "a", clock.wall() + 10))
    assert denylist.matches({"jti": "a", "sid": "x"})
    assert not denylist.matches({"jti": "b", "sid": "a"})
    assert not denylist.matches({"jti": ["b", {"a": "a"}]})
    assert not denylist.matches({})
    assert denylist.holds(Revocation("jti", "a", 1))
    assert not denylist.holds(Revocation("sid", "a", 1))


def test_a_later_expiry_lengthens_and_an_earlier_one_does_not_shorten(clock: ManualClock) -> None:
    """A second, shorter revocation would bring a token back to life."""
    denylist = Denylist(ExpiryClock(clock))
    denylist.add(Revocation("jti", "a", clock.wall() + 10))
    assert denylist.add(Revocation("jti", "a", clock.wall() + 20))
    assert not denylist.add(Revocation("jti", "a", clock.wall() + 5))
    assert len(denylist) == 1
    clock.advance(15)
    denylist.sweep(10)
    assert denylist.matches({"jti": "a"})
    clock.advance(6)  # it expires with the second
    denylist.sweep(10)
    assert not denylist.matches({"jti": "a"})
    assert len(denylist) == 0


def test_the_expired_are_dropped_as_new_ones_come(clock: ManualClock) -> None:
    """A process that runs for months would grow without bound."""
    denylist = Denylist(ExpiryClock(clock))
    for number in range(1000):
        denylist.add(Revocation("jti", str(number), clock.wall() + 1))
        clock.advance(1)
    assert len(denylist) <= 40


def test_lengthening_does_not_grow_the_copy(clock: ManualClock) -> None:
    """Revoking the same session again and again would fill the memory."""
    denylist = Denylist(ExpiryClock(clock))
    for number in range(1000):
        denylist.add(Revocation("sid", "a", clock.wall() + 10 + number))
    assert len(denylist) == 1


def test_what_has_expired_already_is_not_taken(clock: ManualClock) -> None:
    """Replaying a month's log would fill the memory with dead entries."""
    denylist = Denylist(ExpiryClock(clock))
    assert not denylist.add(Revocation("jti", "a", clock.wall()))
    assert len(denylist) == 0


names = st.sampled_from("abcdef")
steps = st.one_of(
    st.tuples(st.just("add"), names, st.integers(1, 100)),
    st.tuples(st.just("advance"), names, st.integers(1, 50)),
    st.tuples(st.just("step"), names, st.integers(-1000, 1000)),
    st.tuples(st.just("sweep"), names, st.integers(1, 5)),
)


@given(st.lists(steps, max_size=60))
def test_a_live_entry_is_never_forgotten(history: list[tuple[str, str, int]]) -> None:
    """A revoked token would work again after a clock step, a sweep or a second revocation."""
    clock = ManualClock()
    denylist = Denylist(ExpiryClock(clock))
    # The model knows true time only: an entry lives as long as the wall clock promised when it
    # was added, whatever is done to that clock afterwards.
    promised: dict[str, float] = {}
    for action, name, amount in history:
        if action == "advance":
            clock.advance(amount)
        elif action == "step":
            clock.step(amount)
        elif action == "sweep":
            denylist.sweep(amount)
        else:
            denylist.add(Revocation("jti", name, clock.wall() + amount))
            promised[name] = max(promised.get(name, 0), clock.elapsed() + amount)
        for live, until in promised.items():
            if clock.elapsed() < until:
                assert denylist.matches({"jti": live})
        assert len(denylist) == sum(denylist.matches({"jti": name}) for name in "abcdef")


def full(clock: ManualClock, *, limit: int = 3) -> Denylist:
    denylist = Denylist(ExpiryClock(clock), limit)
    for number in range(limit):
        assert denylist.add(Revocation("jti", str(number), clock.wall() + 100))
    return denylist


def test_at_the_limit_nothing_that_lives_is_dropped(clock: ManualClock) -> None:
    """Who revokes many tokens could bring his own back to life."""
    denylist = full(clock)
    assert not denylist.add(Revocation("jti", "late", clock.wall() + 1000))
    assert not denylist.complete
    assert not denylist.matches({"jti": "late"})
    assert all(denylist.matches({"jti": str(number)}) for number in range(3))
    assert (len(denylist), denylist.left_out) == (3, 1)


def test_at_the_limit_a_life_can_still_be_lengthened(clock: ManualClock) -> None:
    """A session that is revoked again for longer would come back after the first time."""
    denylist = full(clock)
    assert denylist.add(Revocation("jti", "0", clock.wall() + 500))
    assert denylist.complete


def test_what_has_expired_makes_room(clock: ManualClock) -> None:
    """A copy that was full once would stay so."""
    denylist = full(clock)
    clock.advance(102)
    assert denylist.add(Revocation("jti", "next", clock.wall() + 100))
    assert denylist.complete


def test_it_is_complete_again_when_all_that_was_left_out_has_expired(clock: ManualClock) -> None:
    """Redis would be asked for ever; or no longer although something that lives is missing."""
    denylist = full(clock)
    denylist.add(Revocation("jti", "long", clock.wall() + 50))
    denylist.add(Revocation("jti", "short", clock.wall() + 10))
    clock.advance(49)
    denylist.sweep(10)
    assert not denylist.complete
    clock.advance(2)
    denylist.sweep(10)
    assert denylist.complete


def test_room_is_a_tenth_of_the_limit(clock: ManualClock) -> None:
    """Everything would be listed again each time that one entry expires."""
    denylist = full(clock, limit=10)
    assert not denylist.has_room
    assert Denylist(ExpiryClock(clock), 10).has_room
    assert Denylist(ExpiryClock(clock)).has_room


def test_what_has_expired_and_comes_again_is_counted(clock: ManualClock) -> None:
    """It would never be dropped, and a user who signs in again be locked out for good."""
    denylist = Denylist(ExpiryClock(clock))
    denylist.add(Revocation("sid", "a", clock.wall() + 10))
    clock.advance(12)
    assert denylist.add(Revocation("sid", "a", clock.wall() + 10))
    assert len(denylist) == 1
    clock.advance(12)
    denylist.sweep(10)
    assert not denylist.matches({"sid": "a"})
    assert len(denylist) == 0


def test_what_nobody_else_has_is_held_beyond_the_limit(clock: ManualClock) -> None:
    """A log-out that Redis could not record would not hold here either."""
    denylist = full(clock)
    assert denylist.add(Revocation("jti", "mine", clock.wall() + 100), always=True)
    assert denylist.complete
    assert denylist.matches({"jti": "mine"})


revocations = st.builds(
    Revocation,
    claim=st.sampled_from(["jti", "sub", "tenant"]),
    value=st.sampled_from(["a", "1", 1, 1.0, True]),
    expires_at=st.integers(1, 60).map(float),
    issued_before=st.none() | st.integers(1, 40).map(lambda half: half / 2),
    issuer=st.sampled_from(["", "x"]),
    kept=st.none() | st.builds(Kept, st.sampled_from(["s", "t"]), st.just(0.0)),
).map(lambda each: each if each.issued_before else each._replace(kept=None))
histories = st.lists(revocations | st.floats(0, 20), max_size=30)


@given(histories, st.integers(1, 40).map(lambda half: half / 2))
def test_no_cut_off_is_forgotten(history: list[Revocation | float], since: float) -> None:
    """A session that was ended by a cut-off would come back, because of another one (G2)."""
    clock = ManualClock()
    start = clock.wall()
    denylist = Denylist(ExpiryClock(clock))
    added: list[Revocation] = []
    for step in history:
        if isinstance(step, float):
            clock.advance(step)
        else:
            added.append(step._replace(expires_at=start + step.expires_at))
            denylist.add(added[-1])
        denylist.sweep(1)
        for issuer, value, sid in itertools.product(
            ["", "x"], ["a", "1", 1, True], ["s", "t", "u"]
        ):
            claims = {"jti": value, "sub": [value, None], "sid": sid}
            live = [each for each in added if each.expires_at > clock.wall()]
            wanted = any(each.refuses(claims, issuer=issuer, since=since) for each in live)
            found = denylist.matches(claims, issuer=issuer, since=since)
            assert found or not wanted
            ever = any(each.refuses(claims, issuer=issuer, since=since) for each in added)
            assert ever or not found


@given(st.lists(revocations, max_size=30), st.lists(revocations, max_size=30), st.integers(1, 8))
def test_what_another_copy_lacks_is_found(
    held: list[Revocation], listed: list[Revocation], at_once: int
) -> None:
    """A revocation that Redis has lost, or has for a shorter time, would not be written back."""
    clock = ManualClock()
    one = Denylist(ExpiryClock(clock))
    other = one.another()
    for copy, entries in ((one, held), (other, listed)):
        copy.add_all(each._replace(expires_at=clock.wall() + each.expires_at) for each in entries)
    parts = [*one.lacking(other, at_once)]
    assert {*itertools.chain(*parts)} == {each for each in one.live() if not other.covers(each)}
    assert len(parts) == len(one) // at_once + 1


def test_what_changes_while_it_is_written_back_can_be_read(clock: ManualClock) -> None:
    """One password change during a repair would make other instances miss 499 revocations."""
    denylist = Denylist(ExpiryClock(clock))
    end = clock.wall() + 100
    for number in range(300):
        denylist.add(Revocation("sub", f"user-{number}", end, 5.0))
    live = denylist.live()
    rows = [next(live)]
    for number in range(300):
        denylist.add(Revocation("sub", f"user-{number}", end, 7.0, "", Kept("s")))
    rows += live
    assert len(rows) == 300
    assert decode_payload(encode_payload(rows)) == rows
    for row in rows:  # and it refuses no more than the copy does by now
        claims = {"sub": row.value, "sid": "s"}
        for since in (4.5, 6.5):
            refused = row.refuses(claims, issuer="", since=since)
            assert denylist.matches(claims, since=since) or not refused


def test_a_session_that_is_kept_may_count_from_no_moment(clock: ManualClock) -> None:
    """``is_revoked`` without ``iat`` would say that a session has ended that goes on."""
    denylist = Denylist(ExpiryClock(clock))
    denylist.add(Revocation("sub", "a", clock.wall() + 100, 7.0, "", Kept("s")))
    assert not denylist.matches({"sub": "a", "sid": "s"}, since=0)
    assert denylist.matches({"sub": "a", "sid": "t"}, since=0)


def test_no_session_is_remembered_for_longer_than_its_cut_off(clock: ManualClock) -> None:
    """The sessions of all who ever changed a password would fill the memory."""
    denylist = Denylist(ExpiryClock(clock))
    for number in range(2000):
        revocation = Revocation("sub", str(number), clock.wall() + 10 + number % 7, 5.0, "")
        denylist.add(revocation._replace(kept=Kept("s")))
        clock.advance(0.1)
    assert all(each.kept for each in denylist.live())
    clock.advance(60)
    while denylist.sweep(1000):
        pass
    tables = [each for tables in denylist._tables.values() for each in tables]
    assert [len(each) for each in tables] == [0] * len(tables)
    assert len(denylist) == 0


@given(
    st.lists(
        st.builds(
            Revocation,
            claim=st.sampled_from(["jti", "sid"]),
            value=st.text("aZ09-_", min_size=21, max_size=22)
            | st.uuids().map(str)
            | st.sampled_from(["a", "auth0|x"]),
            expires_at=st.integers(-5, 50).map(float) | st.just(2.0**33),
            issued_before=st.none(),
            issuer=st.sampled_from(["", "https://idp.example"]),
            kept=st.none(),
        ),
        max_size=40,
    ),
    st.none() | st.integers(0, 5),
)
def test_the_quick_way_in_is_the_same_way(some: list[Revocation], limit: int | None) -> None:
    """A start from the log would forget what a start from the records does not (G2)."""
    clock = ManualClock()
    start = clock.wall() // 1
    some = [each._replace(expires_at=start + each.expires_at) for each in some]
    quick, slow = (Denylist(ExpiryClock(clock), limit) for _ in range(2))
    rows, others = plain_rows([encode_payload([each]) for each in some])
    assert not others
    if quick.add_plain(rows):
        slow.add_all(some)
        assert set(quick.live()) == set(slow.live())
        assert len(quick) == len(slow)
        assert all(quick.covers(each) for each in some if each.expires_at > clock.wall())
    else:
        is_late = any(each.expires_at > 2.0**32 for each in some)
        assert is_late or (limit is not None and len(some) > limit)
        assert len(quick) == 0


def test_whoever_wants_to_be_told_is_told(clock: ManualClock) -> None:
    """A WebSocket would stay open because its revocation came in a batch."""
    told: list[Revocation] = []
    denylist = Denylist(ExpiryClock(clock), on_add=told.append)
    rows, _ = plain_rows([encode_payload([Revocation("jti", "a", clock.wall() // 1 + 60)])])
    assert not denylist.add_plain(rows)
    denylist.on_add = None
    assert denylist.add_plain(rows)


def test_what_expires_after_2106_is_held(clock: ManualClock) -> None:
    """A token that is good for a century could not be revoked."""
    denylist = Denylist(ExpiryClock(clock))
    late = Revocation("jti", "a", 2.0**33)
    assert denylist.add(late)
    assert not denylist.add(late)
    assert list(denylist.live()) == [late]
    assert denylist.matches({"jti": "a"})


def test_a_table_that_is_made_anew_is_found(clock: ManualClock) -> None:
    """A session that is revoked after all others have expired would stay signed in."""
    denylist = Denylist(ExpiryClock(clock))
    probe = Probe(denylist, {"jti": "a", "sid": "s"}, "", 1000.0)
    assert not probe.refuses()
    denylist.add(Revocation("sid", "x", clock.wall() + 10))
    assert not probe.refuses()
    clock.advance(20)
    denylist.sweep(100)
    assert len(denylist) == 0
    denylist.add(Revocation("sid", "s", clock.wall() + 10))
    assert probe.refuses()


def test_a_revision_changes_with_whatever_may_refuse_a_token(clock: ManualClock) -> None:
    """A token that was asked about before would go on being accepted."""
    denylist = Denylist(ExpiryClock(clock), 1)
    seen = [denylist.revision]

    def changed() -> bool:
        seen.append(denylist.revision)
        return seen[-1] != seen[-2]

    denylist.add(Revocation("jti", "a", clock.wall() + 10))
    assert changed()
    denylist.add(Revocation("jti", "a", clock.wall() + 5))
    assert not changed()
    denylist.add(Revocation("jti", "b", clock.wall() + 5))  # for which there is no room
    assert changed()
    denylist.add(Revocation("jti", "c", clock.wall() + 5, clock.wall()), always=True)
    assert changed()
    later = Revocation("jti", "c", clock.wall() + 5, clock.wall() + 1)
    denylist.add(later, always=True)
    assert changed()


def test_a_table_that_was_swept_empty_is_used_again(clock: ManualClock) -> None:
    """Cut-offs of the same claim would be dropped with a table that nobody uses any more (G2)."""
    denylist = Denylist(ExpiryClock(clock))
    cut_off = Revocation("sid", "cut", clock.wall() + 1000, clock.wall())
    denylist.add(Revocation("sid", "old", clock.wall() + 1))
    denylist.add(cut_off)
    clock.advance(10)
    for _, table in denylist._rota:
        table.sweep(clock.wall())  # as in the middle of a round
    rows, _ = plain_rows([encode_payload([Revocation("sid", "new", clock.wall() // 1 + 60)])])
    assert denylist.add_plain(rows)
    for _ in range(5):
        denylist.sweep(100)
    assert denylist.covers(cut_off)
    assert denylist.matches({"sid": "new"})


@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=6), st.integers(1, 30), st.integers(0, 9)),
        max_size=80,
    )
)
def test_what_is_added_at_the_limit_is_held_or_said_to_be_left_out(
    history: list[tuple[str, int, int]],
) -> None:
    """A revocation would go into a table that was just dropped to make room for it (G2)."""
    clock = ManualClock()
    denylist = Denylist(ExpiryClock(clock), 4)
    for value, life, passed in history:
        revocation = Revocation("sub", value, clock.wall() // 1 + life + 1)
        left_out = denylist.left_out
        denylist.add(revocation)
        assert denylist.matches({"sub": value}) or denylist.left_out > left_out
        assert len(denylist) == sum(len(table) for _, table in denylist._rota) <= 4
        clock.advance(passed)


def test_two_threads_share_a_probe(clock: ManualClock) -> None:
    """A request in a thread would have everybody else accept a token that was just revoked."""
    denylist = Denylist(ExpiryClock(clock))
    probe = Probe(denylist, {"jti": "a"}, "", 0.0)
    assert not probe.refuses()
    denylist.add(Revocation("jti", "a", clock.wall() + 60))
    look = denylist.tables_about

    def interrupted(claims: Mapping[str, object], issuer: str) -> Iterator[tuple[Table, bytes]]:
        denylist.tables_about = look  # type: ignore[method-assign]  # the other thread's turn
        assert probe.refuses()
        return look(claims, issuer)

    denylist.tables_about = interrupted  # type: ignore[method-assign]  # likewise
    assert probe.refuses()


class CountingClaims(dict[str, object]):
    """Counts how often it is asked."""

    asked = 0

    def get(self, name: str, default: object = None, /) -> object:
        self.asked += 1
        return super().get(name, default)


def test_a_check_does_not_grow_with_the_lengths_of_what_was_revoked(clock: ManualClock) -> None:
    """Values of a thousand lengths would cost each new token half a millisecond."""
    denylist = Denylist(ExpiryClock(clock))
    until = clock.wall() + 60
    for length in range(1, 1001):
        denylist.add(Revocation("device", "x" * length, until))
    claims = CountingClaims(device="x" * 500)
    assert denylist.matches(claims)
    assert claims.asked == 1
    clock.advance(61)
    while len(denylist):
        denylist.sweep(1000)
    unknown = CountingClaims(device="x" * 500)
    assert not denylist.matches(unknown)
    assert unknown.asked == 0
