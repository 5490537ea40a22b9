"""The control: what the usual listener does, which must break the promises."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisClusterException, RedisError

from revokebus.errors import WireError
from revokebus.protocol.wire import decode_message, decode_payload
from revokebus.settings.redis_url import parse_redis_url

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub


class NaiveListener:
    """Subscribes as redis-py's documentation shows, and believes that it hears everything.

    Args:
        url: The servers, as RevokeBus is told of them.
        channel: What to listen to.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._known: set[str] = set()
        self.generation = 0
        self.subscribed = asyncio.Event()

    def knows(self, jti: str) -> bool:
        """Return whether a message has named the token."""
        return jti in self._known

    def staleness(self) -> float | None:
        """Return a tenth of a second: it never doubts, and messages take a moment."""
        return 0.1

    async def run(self) -> None:
        """Listen until cancelled."""
        async with naive_client(self._url) as client:
            while True:
                with contextlib.suppress(RedisError, RedisClusterException, OSError):
                    await self._listen(client)
                await asyncio.sleep(0)  # an error that comes at once must not stop the loop

    async def _listen(self, client: Any) -> None:
        pubsub: PubSub = client.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                self.subscribed.set()
                if message["type"] == "message":
                    with contextlib.suppress(WireError):
                        for each in decode_payload(decode_message(message["data"]).payload):
                            self._known.add(str(each.value))
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has no annotation


@contextlib.asynccontextmanager
async def naive_client(url: str) -> Any:
    """Make redis-py's own client for servers of each kind, and close it."""
    parsed = parse_redis_url(url)
    async with contextlib.AsyncExitStack() as stack:
        if parsed.kind == "sentinel":
            sentinel = Sentinel(list(parsed.nodes), socket_timeout=1.0)  # type: ignore[no-untyped-call]  # redis-py has no annotation
            for each in sentinel.sentinels:
                stack.push_async_callback(each.aclose)
            client: Any = sentinel.master_for(parsed.service)
            stack.push_async_callback(client.aclose)
        elif parsed.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in parsed.nodes]
            client = await stack.enter_async_context(RedisCluster(startup_nodes=nodes))
        else:
            client = redis.asyncio.Redis.from_url(url)
            stack.push_async_callback(client.aclose, close_connection_pool=True)
        yield client
