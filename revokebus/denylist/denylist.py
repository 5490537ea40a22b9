"""The local copy: the live revocations of this process, in memory.

An entry, once added, is there until its ``expires_at`` has passed by the cautious
`ExpiryClock`. Nothing else removes it: there is no eviction and no delete, so a look-up that
finds an entry needs no clock at all. Where there is a limit, what comes after it is reached is
left out, and the copy says that it is incomplete for as long as that may matter.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from revokebus.denylist.packing import Shape, pack, pack_base64, unpack
from revokebus.denylist.table import COVERED, LAST_WHOLE, NEW, CutOffTable, Table, pack_end
from revokebus.protocol.revocation import (
    EVERYTHING,
    Revocation,
    cut_off_covers,
    is_refused,
    kind_and_text,
    value_of,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from revokebus.clock import ExpiryClock
    from revokebus.protocol.wire import PlainRow

_ADDS_PER_SWEEP = 24
_ROOM = 0.9
_SWEPT_FOR_ROOM = 100


class _About(NamedTuple):
    """What the entries of a table have in common."""

    issuer: str
    claim: str
    kind: str
    shape: Shape
    key_size: int


class _Tables:
    """The entries that refuse all tokens, and those that refuse the ones before a cut-off."""

    __slots__ = ("cut_offs", "plain")

    def __init__(self) -> None:
        self.plain: Table | None = None
        self.cut_offs: CutOffTable | None = None

    def __iter__(self) -> Iterator[Table]:
        return (table for table in (self.plain, self.cut_offs) if table is not None)


class Denylist:
    """The live revocations, by what they are about.

    Args:
        clock: Decides when an entry may be dropped.
        max_entries: The most entries that are held; None for no limit.
        on_add: Is told of each revocation that is new, one that there is no room for included.
        on_cut_off: Likewise, of those with a cut-off.

    Attributes:
        clock: As above.
        max_entries: As above.
        on_add: As above. Whoever needs it only at times sets it at those times.
        complete: Whether every live revocation that was to be added is held.
        left_out: How many were left out, ever.
        passed_over: How many had expired when they came, ever.
        revision: Another number after whatever may have one more token refused.
        tables_made: How many tables were ever made.
    """

    def __init__(
        self,
        clock: ExpiryClock,
        max_entries: int | None = None,
        on_add: Callable[[Revocation], None] | None = None,
        on_cut_off: Callable[[Revocation], None] | None = None,
    ) -> None:
        self.clock = clock
        self.max_entries = max_entries
        self._most = math.inf if max_entries is None else max_entries
        self._on_cut_off = on_cut_off
        self.on_add = on_add
        self._tables: dict[_About, _Tables] = {}
        # For how many tables there is something about a claim: values have lengths, and types.
        self._claims: Counter[tuple[str, str]] = Counter()
        self._rota: deque[tuple[_About, Table]] = deque()
        self._size = 0
        self._adds = 0
        self._left_out_until = 0.0
        self.complete = True
        self.left_out = 0
        self.passed_over = 0
        self.revision = 0
        self.tables_made = 0

    def __len__(self) -> int:
        return self._size

    def another(self) -> Denylist:
        """Return an empty one that goes by the same clock, without a limit."""
        return Denylist(self.clock)

    @property
    def has_room(self) -> bool:
        """Whether a tenth of the limit is free, so that listing again is worth while."""
        return self._size <= _ROOM * self._most

    def add(self, revocation: Revocation, *, always: bool = False) -> bool:
        """Hold `revocation` until it expires; a second one only ever adds to the first.

        Args:
            revocation: What to hold.
            always: Whether to hold it beyond the limit, too: nobody else has it.

        Returns:
            Whether the copy changed.
        """
        return self.add_all((revocation,), always=always) == 1

    def add_all(self, revocations: Iterable[Revocation], *, always: bool = False) -> int:
        """Hold `revocations`, as `add` does, and return how many have changed the copy."""
        now = self.clock.now()
        changed = 0
        for revocation in revocations:
            if revocation.expires_at <= now:
                self.passed_over += 1
                continue
            left_out = self.left_out
            if self._put(revocation, always=always):
                changed += 1
                self.changed()  # after it is there: see `Probe`
            elif self.left_out == left_out:
                continue
            if revocation.issued_before is not None and self._on_cut_off is not None:
                self._on_cut_off(revocation)
            if self.on_add is not None:
                self.on_add(revocation)
        self._sweep_for(changed, now)
        return changed

    def add_plain(self, rows: Sequence[PlainRow]) -> bool:
        """Add what `plain_rows` returns, in half the time, or return that it cannot be done so.

        It can, as long as nobody has to be told, there is room for all of it, and none of it lives
        longer than a `Table` can tell.
        """
        if self.on_add is not None or self._size + len(rows) > self._most:
            return False
        ends = [int(row[-1]) for row in rows]
        if ends and max(ends) > LAST_WHOLE:
            return False
        now = self.clock.now()
        groups: dict[tuple[bytes, bytes, Shape, int], list[tuple[bytes, bytes]]] = {}
        for (issuer, claim, short, other, _), end in zip(rows, ends, strict=True):
            if end <= now:
                self.passed_over += 1
            else:
                shape: Shape = "base64"
                if short:
                    key = pack_base64(short)
                else:
                    shape, key = pack(other.decode())
                entries = groups.setdefault((issuer, claim, shape, len(key)), [])
                entries.append((key, pack_end(end)))
        before = self._size
        for of, entries in groups.items():
            added, lengthened = self._plain_table(*of).put_values(entries)
            self._size += added
            if added or lengthened:
                self.changed()
        self._sweep_for(self._size - before, now)
        return True

    def _plain_table(self, issuer: bytes, claim: bytes, shape: Shape, key_size: int) -> Table:
        about = _About(issuer.decode(), claim.decode(), "string", shape, key_size)
        tables = self._tables.get(about)
        known = None if tables is None else tables.plain
        return self._make_table(about, is_plain=True) if known is None else known

    def _sweep_for(self, added: int, now: float) -> None:
        self._adds += added
        while self._adds >= _ADDS_PER_SWEEP:
            # More is looked at than is added: the copy shrinks faster than it grows.
            self._adds -= _ADDS_PER_SWEEP
            self._sweep_bucket(now)

    def _put(self, revocation: Revocation, *, always: bool) -> bool:
        claim, value, expires_at, issued_before, issuer, kept = revocation
        kind, text = ("string", value) if type(value) is str else kind_and_text(value) or ("", "")
        shape, key = pack(text)
        cut_off = math.inf if issued_before is None else issued_before
        is_plain = issued_before is None and expires_at <= LAST_WHOLE
        if not key:
            return False  # an empty text is no id
        about = issuer, claim, kind, shape, len(key)
        table, other = self._pair(about, is_plain=is_plain)
        if other is not None and _covers(other, key, revocation):
            return False
        if self._size >= self._most and not always and (table is None or not table.find(key)):
            self.sweep(_SWEPT_FOR_ROOM)
            if self._size >= self._most:
                self._leave_out(revocation)
                return False
            table, _ = self._pair(about, is_plain=is_plain)  # it may have been dropped just now
        if table is None:
            table = self._make_table(_About(*about), is_plain=is_plain)
        if isinstance(table, CutOffTable):
            change = table.put_kept(key, expires_at, cut_off, kept)
        else:
            change = table.put(key, expires_at)
        self._size += change is NEW
        return change is not COVERED

    def _pair(
        self, about: tuple[str, str, str, Shape, int], *, is_plain: bool
    ) -> tuple[Table | None, Table | None]:
        """Return the table for an entry, and the one that may make it superfluous."""
        tables = self._tables.get(about)  # type: ignore[call-overload]  # compares like an _About, which takes longer to make
        if tables is None:
            return None, None
        return (tables.plain, tables.cut_offs) if is_plain else (tables.cut_offs, tables.plain)

    def _make_table(self, about: _About, *, is_plain: bool) -> Table:
        tables = self._tables.get(about)
        if tables is None:
            tables = self._tables[about] = _Tables()
            self._claims[about.issuer, about.claim] += 1
        if is_plain:
            made = tables.plain = Table(about.key_size)
        else:
            made = tables.cut_offs = CutOffTable(about.key_size)
        self._rota.appendleft((about, made))
        self.tables_made += 1
        return made

    def changed(self) -> None:
        """Have whoever remembers a revision ask anew."""
        self.revision += 1

    def _leave_out(self, revocation: Revocation) -> None:
        self.left_out += 1
        self.complete = False
        self.changed()
        self._left_out_until = max(self._left_out_until, revocation.expires_at)

    def completed(self) -> None:
        """Note that everything was listed anew and nothing was left out."""
        self.complete, self._left_out_until = True, 0.0

    def matches(self, claims: Mapping[str, object], *, issuer: str = "", since: float = 0) -> bool:
        """Return whether a revocation refuses a token.

        Args:
            claims: The verified claims.
            issuer: Whose token it is, as in `Target`.
            since: The moment that cut-offs are compared with.
        """
        return Probe(self, claims, issuer, since).refuses()

    def tables_about(
        self, claims: Mapping[str, object], issuer: str
    ) -> Iterator[tuple[Table, bytes]]:
        """Yield where to look, and for what, to know whether a token is refused."""
        for of, claim in list(self._claims):  # a thread may ask, too
            if of == issuer or claim == EVERYTHING:
                for kind, text in values_of(claims, claim):
                    shape, key = pack(text)
                    for table in self._tables.get(_About(of, claim, kind, shape, len(key)), ()):
                        yield table, key

    def _where(self, revocation: Revocation) -> Iterator[tuple[Table, bytes]]:
        issuer, claim, kind, text = revocation.target
        shape, key = pack(text)
        for table in self._tables.get(_About(issuer, claim, kind, shape, len(key)), ()):
            yield table, key

    def holds(self, revocation: Revocation) -> bool:
        """Return whether there is an entry for the target of `revocation`."""
        return any(table.find(key) is not None for table, key in self._where(revocation))

    def covers(self, revocation: Revocation) -> bool:
        """Return whether an entry refuses whatever `revocation` does, for as long."""
        return any(_covers(table, key, revocation) for table, key in self._where(revocation))

    def live(self) -> Iterator[Revocation]:
        """Yield every entry that has not expired; the copy may change meanwhile.

        Without a cut-off its expiry is the next whole second.
        """
        now = self.clock.now()
        for about, table in list(self._rota):
            for key, expires_at, cut_off in table.items():
                if expires_at > now:
                    yield _revocation(about, table, key, expires_at, cut_off)

    def lacking(self, other: Denylist, at_once: int) -> Iterator[Sequence[Revocation]]:
        """Yield the entries that have not expired and that another copy does not cover.

        Both may change meanwhile.

        Args:
            other: The other copy.
            at_once: For how many entries that are looked at there is one answer, which may be
                empty.
        """
        now = self.clock.now()
        found: list[Revocation] = []
        looked_at = 0
        for about, table in list(self._rota):
            for key, expires_at, cut_off in table.items():
                looked_at += 1
                if expires_at > now and not other._has_plain(about, key, expires_at):
                    each = _revocation(about, table, key, expires_at, cut_off)
                    if not other.covers(each):
                        found.append(each)
                if looked_at == at_once:
                    yield found
                    # Later what has expired meanwhile may be dropped there, and not yet here.
                    found, looked_at, now = [], 0, self.clock.now()
        yield found

    def _has_plain(self, about: _About, key: bytes, expires_at: float) -> bool:
        """Return whether an entry refuses every token, for as long; as most do, and quickly."""
        tables = self._tables.get(about)
        found = tables.plain.find(key) if tables is not None and tables.plain is not None else None
        return found is not None and found[0] >= expires_at

    def sweep(self, limit: int) -> int:
        """Look at some `limit` entries and return how many have expired, and are dropped."""
        now = self.clock.now()
        dropped, looked_at = 0, 0
        for _ in range(sum(table.buckets for _, table in self._rota)):
            if looked_at >= limit:
                break
            seen, gone = self._sweep_bucket(now)
            looked_at += max(1, seen)
            dropped += gone
        if not self.complete and self._left_out_until <= now:
            self.completed()  # whatever was left out has expired
        return dropped

    def _sweep_bucket(self, now: float) -> tuple[int, int]:
        if not self._rota:
            return 0, 0
        about, table = self._rota[-1]
        seen, gone = table.sweep(now)
        self._size -= gone
        if table.is_swept:
            self._rota.pop()
            if len(table):
                self._rota.appendleft((about, table))
            else:
                self._discard(about, table)
        return seen, gone

    def _discard(self, about: _About, table: Table) -> None:
        tables = self._tables[about]
        if tables.plain is table:
            tables.plain = None
        elif tables.cut_offs is table:
            tables.cut_offs = None
        if tables.plain is tables.cut_offs:
            del self._tables[about]
            self._claims[about.issuer, about.claim] -= 1
            if not self._claims[about.issuer, about.claim]:
                del self._claims[about.issuer, about.claim]


def _revocation(
    about: _About, table: Table, key: bytes, expires_at: float, cut_off: float
) -> Revocation:
    kept = table.kept_of(key)
    if kept is not None and kept.issued_before >= cut_off:
        kept = None  # changed since the cut-off was read, which ends it as well
    return Revocation(
        about.claim,
        value_of(about.kind, unpack(about.shape, key)),
        expires_at,
        None if cut_off == math.inf else cut_off,
        about.issuer,
        kept,
    )


def _covers(table: Table, key: bytes, revocation: Revocation) -> bool:
    found = table.find(key)
    if found is None or found[0] < revocation.expires_at:
        return False
    return cut_off_covers(found[1], table.kept_of(key), revocation.cut_off, revocation.kept)


class Probe:
    """Asks the copy about one token, again and again.

    Whoever remembers that it was not refused reads `Denylist.revision` before he asks: in a
    thread something may be added meanwhile.

    Args:
        denylist: The copy.
        claims: The verified claims.
        issuer: Whose token it is, as in `Target`.
        since: The moment that cut-offs are compared with.
    """

    __slots__ = ("_claims", "_denylist", "_issuer", "_known", "_since")

    def __init__(
        self, denylist: Denylist, claims: Mapping[str, object], issuer: str, since: float
    ) -> None:
        self._denylist = denylist
        self._claims = claims
        self._issuer = issuer
        self._since = since
        # One attribute, because threads share a probe: the tables, and how many there were then.
        self._known: tuple[int, list[tuple[Table, bytes]]] = -1, []

    def refuses(self) -> bool:
        """Return whether a revocation refuses the token."""
        made, look_ups = self._known
        if made != self._denylist.tables_made:
            made = self._denylist.tables_made
            look_ups = list(self._denylist.tables_about(self._claims, self._issuer))
            self._known = made, look_ups
        for table, key in look_ups:
            cut_off = table.cut_off(key)
            if cut_off is None or not is_refused(self._since, cut_off):
                continue
            kept = table.kept_of(key)
            if kept is None or kept.session_id != self._claims.get("sid"):
                return True
            if is_refused(self._since, kept.cut_off):
                return True
        return False
