import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import WireError
from revokebus.protocol.revocation import Kept, Revocation, plain
from revokebus.protocol.wire import (
    MAX_BYTES,
    MAX_EXPIRES_AT,
    decode_entry_id,
    decode_message,
    decode_payload,
    encode_entry_id,
    encode_payload,
    plain_rows,
)

EPOCH = "0123456789abcdef" * 2

revocations = st.builds(
    Revocation,
    claim=st.text(min_size=1, max_size=64),
    value=st.text(min_size=1, max_size=200)
    | st.booleans()
    | st.integers(-(10**100), 10**100)
    | st.floats(allow_nan=False, allow_infinity=False),
    expires_at=st.floats(min_value=1, max_value=MAX_EXPIRES_AT),
    issued_before=st.none() | st.floats(min_value=1, max_value=MAX_EXPIRES_AT),
    issuer=st.text(max_size=64),
    kept=st.none() | st.builds(Kept, st.text(min_size=1, max_size=64), st.just(0.0)),
).map(lambda each: each if each.issued_before else each._replace(kept=None))


@given(st.lists(revocations, max_size=20))
def test_what_is_written_is_read(batch: list[Revocation]) -> None:
    """A revocation of an unusual identifier would be lost or hit another token."""
    plainly = [each._replace(value=plain(each.value)) for each in batch]
    assert list(map(repr, decode_payload(encode_payload(batch)))) == list(map(repr, plainly))


simple = st.builds(
    Revocation,
    claim=st.sampled_from(["jti", "sid", "sub"]),
    value=st.text(min_size=1, max_size=30)
    | st.text("abcXYZ019-_", min_size=21, max_size=23)
    | st.text('ab"\\\n,[]', min_size=1),
    expires_at=st.integers(1, 10**11).map(float) | st.floats(min_value=1, max_value=1e11),
    issued_before=st.none() | st.just(5.0),
    issuer=st.sampled_from(["", "https://idp.example"]),
    kept=st.none() | st.builds(Kept, st.text('ab"\\\n,[]1.', min_size=1), st.just(0.0)),
).map(lambda each: each if each.issued_before else each._replace(kept=None))
payloads = st.one_of(
    simple.map(lambda each: encode_payload([each])),
    st.lists(simple, max_size=3).map(encode_payload),
    st.just(b'2 [["","jti","a",1.0,null]]\n2 [["","jti","b",1.0,null]]'),
    st.just(b'2 [["","jti","a",01.0,null]]'),
    st.binary(max_size=20),
    st.none(),
)


@given(st.lists(payloads, max_size=8))
def test_the_quick_reader_reads_what_the_other_does(some: list[bytes | None]) -> None:
    """A start from the log would forget revocations, or refuse tokens that nobody has revoked."""
    rows, others = plain_rows(some)
    quick = [
        Revocation(claim.decode(), (short or other).decode(), float(end), None, issuer.decode())
        for issuer, claim, short, other, end in rows
    ]
    left = list(others)
    slow: list[Revocation] = []
    for payload in some:
        if payload in left:
            left.remove(payload)
        elif payload is not None:
            slow += decode_payload(payload)
    assert not left
    assert quick == slow


def test_what_most_payloads_are_is_read_quickly() -> None:
    """Nobody would notice that each start takes four times as long."""
    one = Revocation("jti", "A" * 22, 2_000_000_000.0)
    other = Revocation("sub", "auth0|5f7c8ec7", 2_000_000_000.0, None, "https://idp.example")
    some = [encode_payload([one]), encode_payload([other]), encode_payload([one, other, one])]
    rows, others = plain_rows(some)
    assert (len(rows), list(others)) == (5, [])


@pytest.mark.parametrize(
    "value", ["auth0|x", "urn:uuid:1", "😀", "a\x00b", "\ud800", "x y\n", "é" * 4096]
)
def test_no_character_is_syntax(value: str) -> None:
    """A colon, a pipe or an emoji in a jti would make its revocation unreadable."""
    revocation = Revocation("jti", value, 2_000_000_000.5)
    assert decode_payload(encode_payload([revocation])) == [revocation]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    """A stranger's message would end the listener."""
    for decode in (decode_payload, decode_message, decode_entry_id):
        with suppress(WireError):
            assert decode(data) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(json_values)
def test_arbitrary_json_raises_nothing_but_wire_errors(value: object) -> None:
    """A message of another program that happens to be JSON would end the listener."""
    try:
        found = decode_payload(b"2 " + json.dumps(value).encode())
    except WireError:
        return
    assert all(0 < revocation.expires_at <= MAX_EXPIRES_AT for revocation in found)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", "version"),
        (b"1 []", "version"),
        (b"2 nonsense", "not_json"),
        (b"2 " + b"[" * 100_000, "not_json"),
        (b"2 " + b"9" * 5000, "not_json"),
        (b"2 {}", "type"),
        (b'2 [["jti","a",1]]', "type"),
        (b'2 [[7, "jti", "a", 1, null]]', "issuer"),
        (b'2 [["", "",  "a", 1, null]]', "claim"),
        (b'2 [["", "jti", "", 1, null]]', "value"),
        (b'2 [["", "jti", null, 1, null]]', "value"),
        (b'2 [["", "jti", [1], 1, null]]', "value"),
        (b'2 [["", "jti", 1e999, 1, null]]', "value"),
        (b'2 [["", "sub", "a", 1, 0]]', "issued_before"),
        (b'2 [["", "sub", "a", 1, "1"]]', "issued_before"),
        (b'2 [["", "sub", "a", 1, true]]', "issued_before"),
        (b'2 [["", "sub", "a", 1, 1e-7]]', "issued_before"),
        (b'2 [["", "sub", "a", 1e-7, null]]', "expires_at"),
        (b'2 [["", "sub", "a", 9, 5, "s", 1e-7]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, "s"]]', "type"),
        (b'2 [["", "sub", "a", 9, 5, "s", 0, 0]]', "type"),
        (b'2 [["", "sub", "a", 9, 5, "", 0]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, 7, 0]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, "s", 5]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, "s", -1]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, "s", false]]', "kept"),
        (b'2 [["", "sub", "a", 9, 5, "s", null]]', "kept"),
        (b'2 [["", "sub", "a", 9, null, "s", 0]]', "kept"),
        (b'2 [["", "jti", "a", true, null]]', "expires_at"),
        (b'2 [["", "jti", "a", NaN, null]]', "expires_at"),
        (b'2 [["", "jti", "a", Infinity, null]]', "expires_at"),
        (b'2 [["", "jti", "a", 1e400, null]]', "expires_at"),
        (b'2 [["", "jti", "a", -1, null]]', "expires_at"),
        (b'2 [["", "jti", "a", 1' + b"0" * 400 + b", null]]", "expires_at"),
        (b"2 []" + b" " * MAX_BYTES, "too_large"),
    ],
)
def test_the_kind_says_what_is_wrong(payload: bytes, kind: str) -> None:
    """An operator could not tell a newer version from a stray message."""
    with pytest.raises(WireError) as caught:
        decode_payload(payload)
    assert caught.value.kind == kind


def test_a_message_names_its_place() -> None:
    """Lost messages could not be noticed."""
    message = decode_message(f"RB {EPOCH} 5-1 6-0 1 []".encode())
    assert (message.epoch, message.previous, message.entry) == (EPOCH, (5, 1), (6, 0))
    assert message.payload == b"1 []"


@pytest.mark.parametrize(
    "data",
    [
        b"RB",
        b"RB x 5-1 6-0 1 []",
        b"XX " + EPOCH.encode() + b" 5-1 6-0 1 []",
        b"RB " + EPOCH.encode() + b" 5-1 6 1 []",
        b"RB " + EPOCH.encode() + b" 5-1 " + b"9" * 30 + b"-0 1 []",
        b"x" * (MAX_BYTES + 1),
    ],
)
def test_a_message_that_is_not_ours_is_refused(data: bytes) -> None:
    """A stranger's message would be taken for a place in the log."""
    with pytest.raises(WireError):
        decode_message(data)


@given(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)))
def test_row_ids_survive_the_wire(row_id: tuple[int, int]) -> None:
    """The log would be read from a wrong place."""
    assert decode_entry_id(encode_entry_id(row_id).encode()) == row_id
