"""The tables that the copy is made of: exact, compact, and never long at work.

A table holds keys of one length, each with the moment when it expires. A dict would take some
200 bytes for an entry, and stop the event loop for a tenth of a second whenever a million of them
are moved to a larger one. Here the entries lie side by side in buckets of a kilobyte, and a
directory says which bucket a hash belongs to (extendible hashing; Fagin, Nievergelt, Pippenger and
Strong 1979). Whatever is done touches one bucket, or splits one in two.

Another thread may look while the event loop changes a table. Entries never move within a bucket:
one that is split or swept is replaced, and stays as it was for whoever has it in his hand.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final, Literal

from revokebus.protocol.revocation import Kept, cut_off_covers, merged_cut_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BUCKET_BYTES = 1024
_LEAST_RECORDS = 8
_MOST_BITS = 22

Change = Literal["new", "lengthened", "covered"]
"""What an entry has changed: the last of them nothing, because what is held does as much."""

NEW: Final = "new"
LENGTHENED: Final = "lengthened"
COVERED: Final = "covered"

LAST_WHOLE = 2**32 - 1
"""The last moment that a `Table` can hold, in seconds since the epoch."""


_END = struct.Struct("<I")
pack_end = _END.pack


class Table:
    """Keys that refuse every token, each until a whole second.

    Args:
        key_size: The length of each key, in bytes.
    """

    _VALUE = _END
    _ENDS = "<%dxI"

    def __init__(self, key_size: int) -> None:
        self._key_size = key_size
        self._size = size = key_size + self._VALUE.size
        self._full = max(_LEAST_RECORDS, _BUCKET_BYTES // size) * size
        self._record = struct.Struct(f"<{key_size}s{self._VALUE.size}s")
        self._ends = struct.Struct(self._ENDS % key_size)
        self._directory = [bytearray()]
        self._swept_to = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def buckets(self) -> int:
        """How many times `sweep` has to be called to look at every entry."""
        return len(self._directory)

    @property
    def is_swept(self) -> bool:
        """Whether every bucket was swept as often as any other."""
        return self._swept_to == 0

    def cut_off(self, key: bytes) -> float | None:
        """Return the cut-off of `key`, in seconds since the epoch; None where it is not held."""
        found = self.find(key)
        return None if found is None else found[1]

    def kept_of(self, key: bytes) -> Kept | None:
        """Return the session that the cut-off of `key` keeps: here none."""
        del key
        return None

    def find(self, key: bytes) -> tuple[float, float] | None:
        """Return when `key` expires, and its cut-off; None where it is not held."""
        directory = self._directory
        bucket = directory[hash(key) & (len(directory) - 1)]
        at = self._find(bucket, key)
        return None if at < 0 else self._unpack(bucket[at + self._key_size : at + self._size])

    def _find(self, bucket: bytearray, key: bytes) -> int:
        at = bucket.find(key)
        while at > 0 and at % self._size:  # across the border of two records
            at = bucket.find(key, at + 1)
        return at

    def put(self, key: bytes, expires_at: float, cut_off: float = math.inf) -> Change:
        """Hold `key` at least as long as before, and with a cut-off at least as late.

        Args:
            key: The key.
            expires_at: Seconds since the epoch, up to which it is held at least.
            cut_off: Likewise; infinity where there is none.
        """
        return self.put_value(key, self._pack(expires_at, cut_off))

    def put_value(self, key: bytes, value: bytes) -> Change:
        """Hold `key` as `put` does; for a `Table`, `value` is what `pack_end` returns."""
        directory = self._directory
        bucket = directory[hash(key) & (len(directory) - 1)]
        at = self._find(bucket, key)
        if at >= 0:
            return self._lengthen(bucket, at + self._key_size, value)
        if len(bucket) >= self._full:
            bucket = self._with_room(key)
        bucket += key + value
        self._count += 1
        return NEW

    def put_values(self, entries: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
        """Hold many as `put_value` does; return how many are new, and how many live longer."""
        before, full, lengthened = self._count, self._full, 0
        for key, value in entries:
            directory = self._directory
            bucket = directory[hash(key) & (len(directory) - 1)]
            if bucket.find(key) < 0 and len(bucket) < full:  # as most are
                bucket += key + value
                self._count += 1
            elif self.put_value(key, value) is LENGTHENED:
                lengthened += 1
        return self._count - before, lengthened

    def _lengthen(self, bucket: bytearray, at: int, value: bytes) -> Change:
        held = slice(at, at + len(value))
        known_end, known_cut_off = self._unpack(bucket[held])
        end, cut_off = self._unpack(value)
        if known_end >= end and known_cut_off >= cut_off:
            return COVERED
        bucket[held] = self._pack(max(end, known_end), max(cut_off, known_cut_off))
        return LENGTHENED

    def _with_room(self, key: bytes) -> bytearray:
        while True:
            slot = hash(key) & (len(self._directory) - 1)
            bucket = self._directory[slot]
            if len(bucket) < self._full or not self._split(slot):
                return bucket

    def _pack(self, expires_at: float, _cut_off: float) -> bytes:
        return pack_end(math.ceil(expires_at))

    def _unpack(self, value: bytes | bytearray) -> tuple[float, float]:
        return float(self._VALUE.unpack(value)[0]), math.inf

    def _split(self, slot: int) -> bool:
        """Share the entries of a bucket out to two, by one more bit of their hashes."""
        bucket, own = self._directory[slot], self._own_bits(slot)
        bit = 1 << own
        if bit == len(self._directory):
            if own == _MOST_BITS:
                return False  # keys of one hash, or too many: the bucket grows, and is slower
            self._directory = self._directory + self._directory
        halves: tuple[list[bytes], list[bytes]] = [], []
        for key, value in self._record.iter_unpack(bucket):
            halves[hash(key) & bit != 0].append(key + value)
        staying, moving = (bytearray(b"".join(half)) for half in halves)
        self._replace(slot & (bit - 1), own + 1, staying)
        self._replace(slot & (bit - 1) | bit, own + 1, moving)
        return True

    def _own_bits(self, slot: int) -> int:
        """Return how many bits of their hashes all entries of a bucket share."""
        directory = self._directory
        bits = len(directory).bit_length() - 1
        while bits and directory[slot ^ (1 << (bits - 1))] is directory[slot]:
            bits -= 1
        return bits

    def _replace(self, slot: int, bits: int, bucket: bytearray) -> None:
        bit = 1 << bits
        for each in range(slot & (bit - 1), len(self._directory), bit):
            self._directory[each] = bucket

    def sweep(self, now: float) -> tuple[int, int]:
        """Drop what has expired by `now` from the next bucket.

        Returns:
            How many entries were looked at, and how many of them were dropped.
        """
        slot = self._swept_to
        self._swept_to = (slot + 1) % len(self._directory)
        bucket, size = self._directory[slot], self._size
        looked_at = len(bucket) // size
        if not looked_at or min(self._ends.iter_unpack(bucket))[0] > now:
            return looked_at, 0
        live = [at * size for at, (end,) in enumerate(self._ends.iter_unpack(bucket)) if end > now]
        kept = bytearray(b"".join([bucket[at : at + size] for at in live]))
        self._replace(slot, self._own_bits(slot), kept)
        self._count -= looked_at - len(live)
        return looked_at, looked_at - len(live)

    def items(self) -> Iterator[tuple[bytes, float, float]]:
        """Yield each key, when it expires, and its cut-off; the table may change meanwhile."""
        directory = self._directory
        for slot, bucket in enumerate(directory):
            # One with fewer bits than the directory has several slots; this is the first of them.
            if not slot or directory[slot & ~(1 << slot.bit_length() - 1)] is not bucket:
                for key, value in self._record.iter_unpack(bytes(bucket)):
                    yield key, *self._unpack(value)


class CutOffTable(Table):
    """Keys that refuse the tokens of before a cut-off, each until any moment.

    Args:
        key_size: The length of each key, in bytes.

    Attributes:
        kept: The session that goes on, of the keys whose cut-off keeps one: few, and so no bytes
            of the table. It is changed before the cut-off, which is always that of both: who
            looks meanwhile sees the one as before, and the other as it will be.
    """

    _VALUE = struct.Struct("<dd")
    _ENDS = "<%dxd8x"

    def __init__(self, key_size: int) -> None:
        super().__init__(key_size)
        self.kept: dict[bytes, Kept] = {}

    def kept_of(self, key: bytes) -> Kept | None:
        """Return the session that the cut-off of `key` keeps, if it keeps one."""
        return self.kept.get(key)

    def put_kept(self, key: bytes, expires_at: float, cut_off: float, kept: Kept | None) -> Change:
        """Hold `key` as `put` does, with the session that its cut-off keeps."""
        known = self.find(key)
        if known is None:
            if kept is not None:
                self.kept[key] = kept
            return self.put(key, expires_at, cut_off)
        known_kept = self.kept.get(key)
        if known[0] >= expires_at and cut_off_covers(known[1], known_kept, cut_off, kept):
            return COVERED
        _, kept = merged_cut_off(cut_off, kept, known[1], known_kept)
        if kept is not None:
            self.kept[key] = kept
        else:
            self.kept.pop(key, None)
        self.put(key, expires_at, cut_off)
        return LENGTHENED

    def sweep(self, now: float) -> tuple[int, int]:
        """Drop what has expired by `now` from the next bucket, as that of a `Table` does."""
        bucket = bytes(self._directory[self._swept_to]) if self.kept else b""
        swept = super().sweep(now)
        for key, value in self._record.iter_unpack(bucket):
            if self._unpack(value)[0] <= now:
                self.kept.pop(key, None)
        return swept

    def _pack(self, expires_at: float, cut_off: float) -> bytes:
        return self._VALUE.pack(expires_at, cut_off)

    def _unpack(self, value: bytes | bytearray) -> tuple[float, float]:
        expires_at, cut_off = self._VALUE.unpack(value)
        return expires_at, cut_off
