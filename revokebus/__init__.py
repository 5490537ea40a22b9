"""RevokeBus: a JWT revoked anywhere is refused everywhere, by a look-up in memory."""

from typing import TYPE_CHECKING

from revokebus.on_demand import on_demand as _on_demand

if TYPE_CHECKING:
    from revokebus.bus import RevokeBus, get_bus
    from revokebus.errors import RevokeBusError
    from revokebus.replication.feed import Heard
    from revokebus.results import (
        BusStatus,
        Confirmation,
        EndingSession,
        Finding,
        InstanceStatus,
        Receipt,
        UserSession,
    )
    from revokebus.settings.cookies import CookieSettings
    from revokebus.settings.outside_issuer import OutsideIssuer
    from revokebus.settings.settings import Settings
    from revokebus.tokens.claims import AccessToken, RefreshToken
    from revokebus.tokens.issuer import IssuedAccess, TokenPair
    from revokebus.web.admin import admin_page
    from revokebus.web.clients import ClientAuthentication
    from revokebus.web.endpoints import introspection_endpoint, revocation_endpoint
    from revokebus.web.guards import client_of, require_access, require_refresh
    from revokebus.web.health import health_endpoints
    from revokebus.web.log_out import require_logout
    from revokebus.web.same_origin import require_same_origin

__all__ = [
    "AccessToken",
    "BusStatus",
    "ClientAuthentication",
    "Confirmation",
    "CookieSettings",
    "EndingSession",
    "Finding",
    "Heard",
    "InstanceStatus",
    "IssuedAccess",
    "OutsideIssuer",
    "Receipt",
    "RefreshToken",
    "RevokeBus",
    "RevokeBusError",
    "Settings",
    "TokenPair",
    "UserSession",
    "admin_page",
    "client_of",
    "get_bus",
    "health_endpoints",
    "introspection_endpoint",
    "require_access",
    "require_logout",
    "require_refresh",
    "require_same_origin",
    "revocation_endpoint",
]

# The plugin for pytest is loaded in every environment that has this package, used or not.
if not TYPE_CHECKING:  # or every misspelt name would be there
    __getattr__ = _on_demand(
        __name__,
        {
            "AccessToken": "revokebus.tokens.claims",
            "BusStatus": "revokebus.results",
            "ClientAuthentication": "revokebus.web.clients",
            "Confirmation": "revokebus.results",
            "CookieSettings": "revokebus.settings.cookies",
            "EndingSession": "revokebus.results",
            "Finding": "revokebus.results",
            "Heard": "revokebus.replication.feed",
            "InstanceStatus": "revokebus.results",
            "IssuedAccess": "revokebus.tokens.issuer",
            "OutsideIssuer": "revokebus.settings.outside_issuer",
            "Receipt": "revokebus.results",
            "RefreshToken": "revokebus.tokens.claims",
            "RevokeBus": "revokebus.bus",
            "RevokeBusError": "revokebus.errors",
            "Settings": "revokebus.settings.settings",
            "TokenPair": "revokebus.tokens.issuer",
            "UserSession": "revokebus.results",
            "admin_page": "revokebus.web.admin",
            "client_of": "revokebus.web.guards",
            "errors": "revokebus.errors",
            "get_bus": "revokebus.bus",
            "health_endpoints": "revokebus.web.health",
            "introspection_endpoint": "revokebus.web.endpoints",
            "require_access": "revokebus.web.guards",
            "require_logout": "revokebus.web.log_out",
            "require_refresh": "revokebus.web.guards",
            "require_same_origin": "revokebus.web.same_origin",
            "revocation_endpoint": "revokebus.web.endpoints",
        },
    )


def __dir__() -> list[str]:
    return __all__
