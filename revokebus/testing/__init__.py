"""Real servers for tests and demonstrations: started on free loopback ports, and stopped."""

from revokebus.testing.app_server import AppServer
from revokebus.testing.redis_server import RedisServer

__all__ = ["AppServer", "RedisServer"]
