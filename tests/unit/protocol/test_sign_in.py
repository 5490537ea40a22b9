from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from revokebus.protocol.sign_in import LONGEST_DEVICE, SignIn, decode_sign_in, encode_sign_in

moments = st.integers(0, 10**11).map(float) | st.floats(1e9, 9e9) | st.just(0.0)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


@given(
    st.builds(SignIn, texts, moments, moments, moments, st.text(max_size=LONGEST_DEVICE)).filter(
        lambda each: each.device.isprintable()
    )
)
def test_what_is_noted_is_read(sign_in: SignIn) -> None:
    """A device with an unusual name would be missing from the list of its owner."""
    assert decode_sign_in(sign_in.session_id.encode(), encode_sign_in(sign_in)) == sign_in


@given(st.binary(max_size=50), st.binary(max_size=80))
def test_what_is_not_ours_is_left_out(session: bytes, entry: bytes) -> None:
    """One key that was written by hand would make a user's page a 500."""
    found = decode_sign_in(session, entry)
    assert found is None or found.session_id.encode() == session


def test_an_entry_has_one_form() -> None:
    """Text from outside would be shown, or take its time."""
    good = b'1.0 0.0 5.0 "phone"'
    assert decode_sign_in(b"s", good) == SignIn("s", 1.0, 0.0, 5.0, "phone")
    for wrong in (
        b'1.0 0.0 "phone"',
        b"1.0 0.0 5.0 7",
        b"1.0 0.0 5.0 {}",
        b'1e9 0.0 5.0 "phone"',
        b'nan 0.0 5.0 "phone"',
        b'1.0 0.0 5.0 "' + b"x" * (LONGEST_DEVICE + 1) + b'"',
        good + b"\n",
        '1.0 0.0 5.0 "é"'.encode(),
        b"",
    ):
        assert decode_sign_in(b"s", wrong) is None
    assert decode_sign_in(b"\xff", good) is None
