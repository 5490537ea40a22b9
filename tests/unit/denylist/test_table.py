"""The tables against a plain dict; what they promise together is in test_denylist.py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revokebus.denylist import table as tables
from revokebus.denylist.table import COVERED, LENGTHENED, NEW, CutOffTable, Table, pack_end

if TYPE_CHECKING:
    from collections.abc import Iterator

keys = st.binary(min_size=2, max_size=2)
ends = st.integers(1, 1000)
cut_offs = st.just(math.inf) | st.floats(1, 1000)
steps = st.one_of(
    st.tuples(st.just("put"), keys, ends, cut_offs),
    st.tuples(st.just("many"), st.lists(st.tuples(keys, ends), max_size=30)),
    st.tuples(st.just("sweep"), st.integers(0, 1000)),
)


@pytest.fixture(autouse=True)
def small_buckets() -> Iterator[None]:
    """Buckets of a few entries, so that they are split all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_BUCKET_BYTES", 1)
        yield


def model_put(model: dict[bytes, tuple[float, float]], key: bytes, end: float, cut: float) -> str:
    known = model.get(key)
    if known is None:
        model[key] = end, cut
        return NEW
    merged = max(known[0], end), max(known[1], cut)
    model[key] = merged
    return COVERED if merged == known else LENGTHENED


@pytest.mark.parametrize("kind", [Table, CutOffTable])
@settings(max_examples=150, deadline=None)
@given(history=st.lists(steps, max_size=60))
def test_a_table_is_a_dict(kind: type[Table], history: list[tuple[object, ...]]) -> None:
    """A revoked token would work again, or a good one not, after a split or a sweep (G2)."""
    table, model = kind(2), dict[bytes, tuple[float, float]]()
    for step in history:
        match step:
            case ("put", bytes(key), int(end), float(cut)):
                cut = cut if kind is CutOffTable else math.inf
                assert table.put(key, end, cut) == model_put(model, key, end, cut)
            case ("many", list(entries)) if kind is Table:
                before = len(model)
                for key, end in entries:
                    model_put(model, key, end, math.inf)
                added, _ = table.put_values([(key, pack_end(end)) for key, end in entries])
                assert added == len(model) - before
            case ("sweep", int(now)):
                swept = [table.sweep(now) for _ in range(table.buckets)]
                expired = [key for key, (end, _) in model.items() if end <= now]
                assert sum(gone for _, gone in swept) == len(expired)
                for key in expired:
                    del model[key]
        assert len(table) == len(model)
    assert {key: (end, cut) for key, end, cut in table.items()} == model
    for number in range(65536) if len(model) > 100 else range(0, 65536, 97):
        key = number.to_bytes(2, "big")
        assert table.find(key) == model.get(key)
        assert table.cut_off(key) == (model[key][1] if key in model else None)


def test_a_key_across_two_entries_is_none() -> None:
    """A token would be refused because of where two others lie in memory."""
    table = Table(4)
    end = 0x61626364  # "dcba" in memory, after the key
    table.put(b"aaaa", end)
    table.put(b"bbbb", end)
    held = b"aaaadcbabbbbdcba"
    for at in range(1, len(held) - 4):
        key = held[at : at + 4]
        assert (table.cut_off(key) is not None) == (key in (b"aaaa", b"bbbb"))
        assert (table.find(key) is not None) == (key in (b"aaaa", b"bbbb"))
    assert table.put(b"aadc", end) == NEW
    assert len(table) == 3


def test_keys_of_one_hash_end_in_one_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds such keys could fill the memory with empty buckets."""
    monkeypatch.setattr(tables, "_MOST_BITS", 2)
    table = Table(2)
    for number in range(500):
        table.put(number.to_bytes(2, "big"), 1000)
    assert len(table) == 500
    assert table.buckets <= 4
    assert all(table.cut_off(number.to_bytes(2, "big")) == math.inf for number in range(500))


def test_whoever_looks_meanwhile_sees_what_was_there() -> None:
    """A request in a thread would pass with a revoked token, in the moment of a split or sweep."""
    table = Table(2)
    for number in range(8):
        table.put(number.to_bytes(2, "big"), 10 + number)
    (bucket,) = {id(bucket): bucket for bucket in table._directory}.values()
    as_it_was = bytes(bucket)
    for number in range(8, 40):
        table.put(number.to_bytes(2, "big"), 1000)
    for _ in range(table.buckets):
        table.sweep(15)
    assert bucket == as_it_was


def test_a_fraction_of_a_second_is_not_lost() -> None:
    """A token could outlive its revocation by almost a second."""
    table = Table(2)
    table.put(b"ab", 10.25)
    assert table.find(b"ab") == (11.0, math.inf)
