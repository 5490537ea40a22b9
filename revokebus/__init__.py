"""RevokeBus: a JWT revoked anywhere is refused everywhere, by a look-up in memory."""

from revokebus.bus import RevokeBus
from revokebus.claims import AccessToken, RefreshToken
from revokebus.cookie_settings import CookieSettings
from revokebus.errors import RevokeBusError
from revokebus.issuer import TokenPair
from revokebus.outside_issuer import OutsideIssuer
from revokebus.report import BusStatus, Confirmation, InstanceStatus, Receipt
from revokebus.settings import Settings
from revokebus.web.admin import admin_page
from revokebus.web.clients import ClientAuthentication
from revokebus.web.endpoints import introspection_endpoint, revocation_endpoint
from revokebus.web.guards import client_of, require_access, require_refresh
from revokebus.web.health import health_endpoints

__all__ = [
    "AccessToken",
    "BusStatus",
    "ClientAuthentication",
    "Confirmation",
    "CookieSettings",
    "InstanceStatus",
    "OutsideIssuer",
    "Receipt",
    "RefreshToken",
    "RevokeBus",
    "RevokeBusError",
    "Settings",
    "TokenPair",
    "admin_page",
    "client_of",
    "health_endpoints",
    "introspection_endpoint",
    "require_access",
    "require_refresh",
    "revocation_endpoint",
]
