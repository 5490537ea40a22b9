"""Which texts are no HMAC secret: guessable ones, and keys that are public elsewhere.

A public key that is used as an HMAC secret lets everybody sign who has read it. The library that
verifies looks for that, too, and was got round several times by another way of writing the key.
"""

from __future__ import annotations

import base64
import binascii
import re

_FEWEST_CHARACTERS = 8
_LONGEST_UNIT = 16
_LEAST_DER = 32

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

_PEM = re.compile(r"(BEGIN|END).*(KEY|CERTIFICATE)", re.IGNORECASE | re.DOTALL)
_SSH = re.compile(r"\W*(ssh-|ecdsa-sha2-|sk-(ssh|ecdsa)-)", re.IGNORECASE)
_JSON = re.compile(r"\W*[\[{\"].*\"?(kty|keys)\b", re.DOTALL)


def is_guessable(secret: str) -> bool:
    """Return whether `secret` is well known or repeats itself."""
    if secret.lower() in _WELL_KNOWN or len(set(secret)) < _FEWEST_CHARACTERS:
        return True
    # A string is a repetition exactly if it stands inside its own double, shifted.
    return 0 < (secret + secret).find(secret, 1) <= _LONGEST_UNIT


def is_a_key(secret: str) -> bool:
    """Return whether `secret` is, however it is written, a key or certificate of another kind."""
    return bool(_PEM.search(secret) or _SSH.match(secret) or _JSON.match(secret) or _is_der(secret))


def _is_der(secret: str) -> bool:
    packed = re.sub(r"\s", "", secret).rstrip("=")
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
    """Return whether `data` is one ASN.1 SEQUENCE and nothing else, which no random text is."""
    if len(data) < _LEAST_DER or data[0] != 0x30:  # noqa: PLR2004 - the tag of a SEQUENCE
        return False
    if data[1] < 0x80:  # noqa: PLR2004 - a length in one byte
        return len(data) == 2 + data[1]
    size = data[1] & 0x7F
    return len(data) == 2 + size + int.from_bytes(data[2 : 2 + size], "big")
