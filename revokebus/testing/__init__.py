"""For tests and demonstrations: real servers on free loopback ports, and a clock to move."""

from revokebus.testing.app_server import AppServer, serving
from revokebus.testing.clock import ManualClock
from revokebus.testing.redis_server import RedisServer

__all__ = ["AppServer", "ManualClock", "RedisServer", "serving"]
