"""What tests import from each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus import Settings

    Eventually = Callable[[Callable[[], object]], Awaitable[None]]

SECRET = secrets.token_urlsafe(64)


class MakeSettings(Protocol):
    def __call__(self, redis_url: str = "memory://", **changes: Any) -> Settings: ...
