"""What is noted of a session for its user to see: where it was begun, and when it was used last.

An entry is the text ``<signed in at> <refreshed at> <expires at> <device>``: three moments in
seconds since the epoch, the second of them 0 before the first refresh, and a text as JSON has it.
It is a help for people and no condition of anything: a session without one is a session as well.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

LONGEST_DEVICE = 200
"""Maximum length of a device's name, in characters; what is longer is cut."""

MOST_LISTED = 100
"""Maximum number of sessions of one user that are listed: those that were used last."""

_MOMENT = r"(\d{1,12}(?:\.\d{1,20})?)"
_ENTRY = re.compile(rf"{_MOMENT} {_MOMENT} {_MOMENT} (\".{{0,2500}}\")", re.ASCII)


class SignIn(NamedTuple):
    """One session of a user, as it is noted.

    Attributes:
        session_id: Its ``sid``.
        signed_in_at: When it began, in seconds since the epoch.
        refreshed_at: When its tokens were exchanged last, likewise; 0 for not yet.
        expires_at: When its last refresh token expires, likewise.
        device: Where it was begun, as the application has called it.
    """

    session_id: str
    signed_in_at: float
    refreshed_at: float
    expires_at: float
    device: str


def encode_sign_in(sign_in: SignIn) -> bytes:
    """Return the entry of a session."""
    moments = sign_in.signed_in_at, sign_in.refreshed_at, sign_in.expires_at
    text = " ".join(map(repr, map(float, moments)))  # exactly: cut-offs are compared with it
    return f"{text} {json.dumps(sign_in.device)}".encode("ascii")


def decode_sign_in(session_id: bytes, entry: bytes) -> SignIn | None:
    """Return the session that an entry is of; None where it cannot be read."""
    try:
        match = _ENTRY.fullmatch(entry.decode("ascii"))
        if match is None:
            return None
        device = json.loads(match[4])
        signed_in_at, refreshed_at, expires_at = map(float, match.groups()[:3])
        name = session_id.decode()
    except ValueError:
        return None
    if not isinstance(device, str) or len(device) > LONGEST_DEVICE or not device.isprintable():
        return None
    return SignIn(name, signed_in_at, refreshed_at, expires_at, device)
