"""Which tokens belong together: those of a sign-in, and those that its refresh token buys."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt

from revokebus import RevokeBusError
from revokebus.compat.fastapi_jwt_auth.codec import moment, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from revokebus import RevokeBus


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in.

    Attributes:
        began: When, in seconds since the epoch; the ``auth_time`` of its tokens.
        session_id: Their ``sid``.
    """

    began: float
    session_id: str = field(default_factory=new_id)


def new_session(bus: RevokeBus | None) -> Session:
    """Return the session of somebody who signs in now.

    A bus knows which cut-offs there are, and puts what it issues after them; so its word is taken.
    """
    if bus is not None:
        client = {"client_id": "nobody"} if bus.settings.rfc9068 else None
        try:
            issued = bus.issue("nobody", claims=client).access_token
        except RevokeBusError:  # it issues none: others do
            return Session(time.time())
        return Session(jwt.decode(issued, options={"verify_signature": False})["auth_time"])
    return Session(time.time())


def session_of(claims: Mapping[str, Any]) -> Session:
    """Return the session of a token that was checked."""
    began = moment(claims.get("auth_time", claims.get("iat"))) or time.time()
    sid = claims.get("sid")
    return Session(began, sid) if isinstance(sid, str) else Session(began)
