"""For tests and demonstrations: real servers on free loopback ports, and a clock to move."""

from revokebus.testing.app_server import AppServer, serving
from revokebus.testing.clock import ManualClock
from revokebus.testing.cluster import ClusterServers
from revokebus.testing.kit import Kit, User
from revokebus.testing.link import Link
from revokebus.testing.redis_server import RedisServer
from revokebus.testing.sentinel import SentinelServers

__all__ = [
    "AppServer",
    "ClusterServers",
    "Kit",
    "Link",
    "ManualClock",
    "RedisServer",
    "SentinelServers",
    "User",
    "serving",
]
