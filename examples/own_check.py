"""The application's own check beside the local copy: users who are banned by name.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=memory:// uvicorn examples.own_check:app``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.login_logout import create_app

if TYPE_CHECKING:
    from revokebus import AccessToken, RefreshToken, RevokeBus

BANNED = {"bob"}

app = create_app()
bus: RevokeBus = app.state.revokebus


@bus.deny_if
async def is_banned(token: AccessToken | RefreshToken) -> bool:
    """Refuse the tokens of banned users; an exception here would refuse them too."""
    return token.subject in BANNED
