"""Which texts are no HMAC secret: guessable ones, and keys that are public elsewhere.

A public key that is used as an HMAC secret lets everybody sign who has read it. The library that
verifies looks for that, too, and was got round several times by another way of writing the key.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

_FEWEST_CHARACTERS = 8
_LONGEST_UNIT = 16
_LEAST_DER = 32
_INTEGER, _SEQUENCE, _LONG_FORM = 0x02, 0x30, 0x80

# Long enough for HS256, and printed in documentation that many people copy from.
_WELL_KNOWN = frozenset(
    {
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        "a-valid-string-secret-that-is-at-least-384-bits-long",
        "your-256-bit-secret-your-256-bit-secret",
        "your-super-secret-key-change-in-production",
        "your-secret-key-change-this-in-production",
        "your-secret-key-here-change-in-production",
        "super-secret-key-change-this-in-production",
        "change-this-to-a-secure-random-secret-key",
        "please-change-this-secret-key-in-production",
        "this-is-a-very-secret-key-change-it-now",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "abcdefghijklmnopqrstuvwxyz123456",
        "0123456789abcdef0123456789abcdef",
        "12345678901234567890123456789012",
    }
)

_PEM = re.compile(r"(?<!-)-{4,}+\s*+(BEGIN|END)\b", re.IGNORECASE)
# By whole names of algorithms: a random secret begins with "ssh-" now and then.
_SSH = re.compile(
    r"\W*(ssh-(rsa|dss|ed25519|ed448)|ecdsa-sha2-nistp|sk-(ssh-ed25519|ecdsa-sha2))", re.IGNORECASE
)


def is_guessable(secret: str) -> bool:
    """Return whether `secret` is well known or repeats itself."""
    if secret.lower() in _WELL_KNOWN or len(set(secret)) < _FEWEST_CHARACTERS:
        return True
    # A string is a repetition exactly if it stands inside its own double, shifted.
    return 0 < (secret + secret).find(secret, 1) <= _LONGEST_UNIT


def is_a_key(secret: str) -> bool:
    """Return whether `secret` is, however it is written, a key or certificate of another kind."""
    return bool(_PEM.search(secret) or _SSH.match(secret) or _is_json(secret) or _is_der(secret))


def _is_json(secret: str) -> bool:
    try:
        return isinstance(json.loads(secret.strip("\ufeff \t\r\n")), dict | list | str)
    except (ValueError, RecursionError):
        return False


def _is_der(secret: str) -> bool:
    packed = "".join(secret.split()).rstrip("=")
    candidates = [secret.encode("latin-1", "replace")]
    for alphabet in (b"+/", b"-_"):
        try:
            padded = packed + "=" * (-len(packed) % 4)
            candidates.append(base64.b64decode(padded, alphabet, validate=True))
        except (binascii.Error, ValueError):
            continue
    # PEM as a whole, in base64, is how some deployments keep a key in one variable.
    return any(_is_sequence(each) or each.startswith(b"-----BEGIN") for each in candidates)


def _is_sequence(data: bytes) -> bool:
    """Return whether `data` is one ASN.1 SEQUENCE that begins as keys and certificates do.

    The length and the tags inside have to be right, so no random secret is one.
    """
    if len(data) < _LEAST_DER or data[0] != _SEQUENCE:
        return False
    size = 0 if data[1] < _LONG_FORM else data[1] - _LONG_FORM
    length = int.from_bytes(data[2 : 2 + size], "big") if size else data[1]
    inside = data[2 + size :]
    if len(inside) != length or length < _LEAST_DER - 4:
        return False
    if inside[0] == _INTEGER:
        return size > 0  # the modulus of an RSA key, which is long, or a version before it
    skipped = 2 if inside[1] < _LONG_FORM else 2 + inside[1] - _LONG_FORM
    first = inside[skipped : skipped + 1]
    return inside[0] == _SEQUENCE and first in (b"\x06", b"\x02", b"\xa0")  # OID, INTEGER, [0]
