"""A claim's value as the bytes that a table holds: the usual ids take 16 of them, not 22 or 36.

Nothing is hashed or cut off: the text comes back as it was, so that what this process holds and
Redis has lost can be written back.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from typing import Literal
from uuid import UUID

Shape = Literal["text", "uuid", "base64"]
"""How a key stands for its text."""

# Only what comes back the same: a UUID in small letters (RFC 9562 §4), and 128 bits of base64url
# without padding whose last character has no bits that mean nothing (RFC 4648 §5, §3.5).
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_LENGTH = 36
_BASE64 = re.compile("[A-Za-z0-9_-]{21}[AQgw]")
_BASE64_LENGTH = 22
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_FROM_BASE64 = bytes.maketrans(b"+/", b"-_")


def pack(text: str) -> tuple[Shape, bytes]:
    """Return the key of `text`, and its shape; two texts differ in one of them."""
    length = len(text)
    if length == _BASE64_LENGTH and _BASE64.fullmatch(text):
        return "base64", pack_base64(text.encode())
    if length == _UUID_LENGTH and _UUID.fullmatch(text):
        return "uuid", bytes.fromhex(text.replace("-", ""))
    return "text", text.encode("utf-8", "surrogatepass")


def pack_base64(text: bytes) -> bytes:
    """Return the key of a text that is 128 bits of base64url, in ASCII."""
    return a2b_base64(text.translate(_TO_BASE64) + b"==")


def unpack(shape: Shape, key: bytes) -> str:
    """Return the text of `key`."""
    if shape == "base64":
        return b2a_base64(key, newline=False).translate(_FROM_BASE64, b"=").decode()
    if shape == "uuid":
        return str(UUID(bytes=key))
    return key.decode("utf-8", "surrogatepass")
