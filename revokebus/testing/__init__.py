"""For tests and demonstrations: real servers on free loopback ports, and a clock to move."""

from typing import TYPE_CHECKING

from revokebus.on_demand import on_demand as _on_demand

if TYPE_CHECKING:
    from revokebus.testing.app_server import AppServer, serving
    from revokebus.testing.clock import ManualClock
    from revokebus.testing.cluster import ClusterServers
    from revokebus.testing.kit import Kit, User
    from revokebus.testing.link import Link
    from revokebus.testing.redis_server import RedisServer
    from revokebus.testing.sentinel import SentinelServers
    from revokebus.testing.tokens import make_token, signed_in

__all__ = [
    "AppServer",
    "ClusterServers",
    "Kit",
    "Link",
    "ManualClock",
    "RedisServer",
    "SentinelServers",
    "User",
    "make_token",
    "serving",
    "signed_in",
]

# Likewise.
if not TYPE_CHECKING:  # or every misspelt name would be there
    __getattr__ = _on_demand(
        __name__,
        {
            "AppServer": "revokebus.testing.app_server",
            "ClusterServers": "revokebus.testing.cluster",
            "Kit": "revokebus.testing.kit",
            "Link": "revokebus.testing.link",
            "ManualClock": "revokebus.testing.clock",
            "RedisServer": "revokebus.testing.redis_server",
            "SentinelServers": "revokebus.testing.sentinel",
            "User": "revokebus.testing.kit",
            "make_token": "revokebus.testing.tokens",
            "serving": "revokebus.testing.app_server",
            "signed_in": "revokebus.testing.tokens",
        },
    )


def __dir__() -> list[str]:
    return __all__
