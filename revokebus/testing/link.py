"""A way to Redis that loses, delays and reorders messages, and breaks, on command.

It stands between an instance and a real server, as a network does, and runs in a thread of its own,
so that it serves a test whatever event loop that has.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self

import hiredis

from revokebus.testing.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

_CHUNK = 65_536
_PATIENCE = 10.0
_MESSAGE = b"message"

Mode = Literal["open", "dropping", "holding", "partitioned"]


class Link:
    """A context manager: a way to one server, for one instance or several.

    Args:
        host: Where the server is.
        port: Its port.

    Attributes:
        dropped: How many messages of the channel were lost here.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._mode: Mode = "open"
        self._port = 0
        self._forgotten: set[asyncio.StreamWriter] = set()
        self.dropped = 0

    @property
    def url(self) -> str:
        """The ``redis_url`` that goes this way."""
        return f"redis://{LOOPBACK}:{self._port}/0"

    @property
    def held(self) -> int:
        """How many messages wait here."""
        return len(self._held)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    # Commands

    def drop(self) -> None:
        """Lose every message of the channel from now on; requests are answered as ever."""
        self._mode = "dropping"

    def hold(self) -> None:
        """Keep every message of the channel from now on, for `release`."""
        self._mode = "holding"

    def release(self, *, reverse: bool = False) -> None:
        """Deliver what was held, in its order or the reverse one, and hold nothing more."""
        self._do(self._deliver(reverse=reverse))

    def partition(self) -> None:
        """End every connection, and let none through."""
        self._mode = "partitioned"
        self._do(self._cut())

    def cut(self) -> None:
        """End every connection, and let new ones through."""
        self._do(self._cut())

    def forget(self) -> None:
        """Swallow whatever comes on the connections that there are, and let new ones through.

        So does a balancer that has forgotten idle connections: neither side is told.
        """
        self._forgotten |= self._writers

    def lead_to(self, host: str, port: int) -> None:
        """Lead new connections to another server; those that there are stay where they are."""
        self._server = host, port

    def heal(self) -> None:
        """Lose, hold and break nothing more; what is held is lost."""
        self._held.clear()
        self._mode = "open"

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    # In the thread

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._mode = "partitioned"
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.close()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, *, reverse: bool) -> None:
        held, self._held = self._held, []
        for writer, data in reversed(held) if reverse else held:
            if not writer.is_closing():
                writer.write(data)
        self._mode = "open"  # nothing new has overtaken what was held

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._mode == "partitioned" or task is None:
            writer.close()
            return
        self._tasks.add(task)
        try:
            with suppress(OSError):
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # by `cut`
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._server)
        subscribed = asyncio.Event()
        self._writers |= {writer, to_server}
        pumps = [
            asyncio.create_task(self._ask(reader, to_server, subscribed)),
            asyncio.create_task(self._answer(from_server, writer, subscribed)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.close()
            self._writers -= {writer, to_server}
            self._forgotten -= {writer, to_server}

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        subscribed: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if b"SUBSCRIBE" in data:  # on a connection of its own, as this project does
                subscribed.set()
            if writer not in self._forgotten:
                writer.write(data)
                await writer.drain()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        subscribed: asyncio.Event,
    ) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(_CHUNK):
            if writer in self._forgotten:
                continue
            if not subscribed.is_set():
                writer.write(data)
            else:
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    self._forward(reply, writer)
            await writer.drain()

    def _forward(self, reply: Any, writer: asyncio.StreamWriter) -> None:
        data = _encode(reply)
        is_message = isinstance(reply, list) and reply[:1] == [_MESSAGE]
        if is_message and self._mode == "dropping":
            self.dropped += 1
        elif is_message and self._mode == "holding":
            self._held.append((writer, data))
        else:
            writer.write(data)


def _encode(reply: Any) -> bytes:
    """Return what a subscribed connection is sent, as RESP2 has it."""
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_encode, reply))
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, Exception):
        return f"-{reply}\r\n".encode()
    data = reply.encode() if isinstance(reply, str) else bytes(reply)
    return b"$%d\r\n%s\r\n" % (len(data), data)
