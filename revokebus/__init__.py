"""RevokeBus: a JWT revoked anywhere is refused everywhere, by a look-up in memory."""

from revokebus.bus import RevokeBus
from revokebus.errors import RevokeBusError
from revokebus.replication.feed import Heard
from revokebus.results import BusStatus, Confirmation, Finding, InstanceStatus, Receipt
from revokebus.settings.cookies import CookieSettings
from revokebus.settings.outside_issuer import OutsideIssuer
from revokebus.settings.settings import Settings
from revokebus.tokens.claims import AccessToken, RefreshToken
from revokebus.tokens.issuer import TokenPair
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
    "Finding",
    "Heard",
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
