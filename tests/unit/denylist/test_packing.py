import base64
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from revokebus.denylist.packing import pack, pack_base64, unpack

ids = st.binary(min_size=16, max_size=16)


@given(st.text() | st.text("0123456789abcdefABCDEF-", min_size=36, max_size=36))
@example("A" * 21 + "B")  # its last bits are no part of 128, so it would come back as another text
@example("00000000-0000-0000-0000-00000000000A")
@example("\ud800")
def test_every_text_comes_back(text: str) -> None:
    """A revocation that Redis has lost would be written back for another token."""
    shape, key = pack(text)
    assert unpack(shape, key) == text


@given(ids)
def test_ids_of_128_bits_take_16_bytes(raw: bytes) -> None:
    """The copy would take half as much memory again."""
    text = base64.urlsafe_b64encode(raw).rstrip(b"=")
    assert pack(text.decode()) == ("base64", raw)
    assert pack_base64(text) == raw
    assert pack(str(uuid.UUID(bytes=raw))) == ("uuid", raw)


@given(st.lists(st.text(), unique=True, max_size=20))
def test_two_texts_are_two_keys(texts: list[str]) -> None:
    """Revoking one user would sign out another."""
    assert len(set(map(pack, texts))) == len(texts)


@pytest.mark.parametrize("text", ["A" * 22, "-" * 21 + "w", "_" * 21 + "g"])
def test_the_alphabet_is_that_of_urls(text: str) -> None:
    """Ids with a dash or an underscore would be mixed up."""
    shape, key = pack(text)
    assert shape == "base64"
    assert unpack(shape, key) == text
