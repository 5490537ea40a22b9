"""RevokeBus: a JWT revoked anywhere is refused everywhere, by a look-up in memory."""

from revokebus.bus import RevokeBus
from revokebus.claims import AccessToken, RefreshToken
from revokebus.errors import RevokeBusError
from revokebus.issuer import TokenPair
from revokebus.report import BusStatus, Receipt
from revokebus.settings import Settings
from revokebus.web.guards import require_access, require_refresh

__all__ = [
    "AccessToken",
    "BusStatus",
    "Receipt",
    "RefreshToken",
    "RevokeBus",
    "RevokeBusError",
    "Settings",
    "TokenPair",
    "require_access",
    "require_refresh",
]
