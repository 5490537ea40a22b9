"""Many revocations, as this library makes them."""

from __future__ import annotations

import secrets
import time
from itertools import islice
from typing import TYPE_CHECKING

from revokebus.protocol.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.engine.engine import Engine

LOG = "{revokebus}:log"
LIFE = 3000.0
_AT_ONCE = 200


def revocations(count: int) -> Iterator[Revocation]:
    """Yield revocations of tokens, of sessions, and of what users had before a moment."""
    now = time.time()
    end = now // 1 + LIFE
    for number in range(count):
        value = secrets.token_urlsafe(16)
        if number % 1000 == 999:
            yield Revocation("sub", value, end, now)
        else:
            yield Revocation("sid" if number % 10 > 6 else "jti", value, end)


def fill(engine: Engine, count: int) -> None:
    """Put that many into the copy of `engine`, as an applier does."""
    made = revocations(count)
    while some := list(islice(made, _AT_ONCE)):
        engine._denylist.add_all(some)  # noqa: SLF001 - there is no public way to do it at once
