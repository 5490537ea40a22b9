"""The network between processes and servers: TCP, as far as faults of it can be seen.

Bytes of one direction of one connection arrive in order and once, or not at all; what is sent into
a way that is cut waits until the way is whole again, as TCP sends again. Everything else is left to
chance: how long each way takes, and which connection is faster.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.loop import Process

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.loop import SimulatedLoop

Address = tuple[str, int]

_AGAIN = 0.2
_AT_ONCE = 1e-6


class Peer(Protocol):
    """The server's end of a connection."""

    def received(self, data: bytes) -> None:
        """Take what has arrived."""

    def lost(self) -> None:
        """Take notice that the client has closed it, or that it was reset."""


class Host(Protocol):
    """What can be connected to."""

    process: Process

    def accept(self, connection: Connection) -> Peer | None:
        """Return the server's end; None refuses."""


class Way:
    """What lies between one process and one server.

    Attributes:
        latency: The least number of seconds that bytes take, one way.
        jitter: How much more they may take.
        usual: Both, while nothing is wrong.
        is_cut: Whether nothing arrives, in either direction, and nobody is told.
        loses_answers: Whether nothing arrives that the server sends.
    """

    def __init__(self, latency: float, jitter: float) -> None:
        self.latency = latency
        self.jitter = jitter
        self.usual = latency, jitter
        self.is_cut = False
        self.loses_answers = False

    def passes(self, *, is_answer: bool) -> bool:
        """Return whether bytes arrive."""
        return not self.is_cut and not (is_answer and self.loses_answers)


class _Direction:
    """Bytes on their way in one direction, in order."""

    def __init__(
        self, network: Network, way: Way, deliver: Callable[[bytes], None], *, is_answer: bool
    ) -> None:
        self._network = network
        self._way = way
        self._deliver = deliver
        self._is_answer = is_answer
        self._last = -math.inf
        self._sent: deque[tuple[float, bytes]] = deque()
        self.is_ended = False

    def send(self, data: bytes) -> None:
        way = self._way
        seconds = way.latency + self._network.rng.random() * way.jitter
        self._last = max(self._network.loop.time() + seconds, self._last)
        self._sent.append((self._last, data))
        if len(self._sent) == 1:
            self._network.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self.is_ended or not self._sent:
            return
        if not self._way.passes(is_answer=self._is_answer):
            self._network.call_at(self._network.loop.time() + _AGAIN, self._arrive)
            return
        data, now = b"", self._network.loop.time()
        while self._sent and self._sent[0][0] <= now + _AT_ONCE:
            data += self._sent.popleft()[1]
        if self._sent:
            self._network.call_at(self._sent[0][0], self._arrive)
        self._deliver(data)


class Connection(asyncio.Transport):
    """Both ends of a connection; to the client it is its transport.

    Args:
        network: Carries it.
        client: The process that has opened it.
        server: The process that has accepted it.
        way: What lies between them.
        protocol: The client's.
    """

    def __init__(
        self, network: Network, client: Process | None, server: Process, way: Way, protocol: Any
    ) -> None:
        super().__init__()
        self._network = network
        self._client = client
        self._server = server
        self._way = way
        self._protocol = protocol
        self._is_closing = False
        self._is_over = False
        self.peer: Peer | None = None
        self._to_server = _Direction(network, way, self._at_server, is_answer=False)
        self._to_client = _Direction(network, way, self._at_client, is_answer=True)

    def is_of(self, client: Process) -> bool:
        """Return whether that process has opened it."""
        return self._client is client

    def is_to(self, server: Process) -> bool:
        """Return whether that process has accepted it."""
        return self._server is server

    # The client's end

    def write(self, data: Any) -> None:
        """Send to the server."""
        if not self._is_closing:
            self._to_server.send(bytes(data))

    def close(self) -> None:
        """Close it, as a client does."""
        if not self._is_closing:
            self._is_closing = True
            self._end_client(None)
            self._network.call_at(self._network.loop.time() + self._way.latency, self._tell_server)

    def abort(self) -> None:
        """Close it."""
        self.close()

    def is_closing(self) -> bool:
        """Return whether it was closed, or lost."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """Return 0: the kernel has taken everything."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the kernel takes everything."""

    def pause_reading(self) -> None:
        """Do nothing: what has arrived is kept by whoever reads."""

    def resume_reading(self) -> None:
        """Do nothing, likewise."""

    def can_write_eof(self) -> bool:
        """Return False: nobody needs it."""
        return False

    # The server's end

    def answer(self, data: bytes) -> None:
        """Send to the client."""
        if not self._is_over:
            self._to_client.send(data)

    def end(self) -> None:
        """Close it, as a server does."""
        if not self._is_over:
            self._is_over = True
            self._to_server.is_ended = True
            self._network.call_at(self._network.loop.time() + self._way.latency, self._tell_client)

    # What arrives

    def _at_server(self, data: bytes) -> None:
        if self.peer is not None and not self._is_over:
            self.peer.received(data)

    def _at_client(self, data: bytes) -> None:
        if not self._is_closing:
            self._in_client(self._protocol.data_received, data)

    def _tell_server(self) -> None:
        if self._is_over:
            return
        if not self._way.passes(is_answer=False):
            self._network.call_at(self._network.loop.time() + _AGAIN, self._tell_server)
            return
        self._is_over = True
        if self.peer is not None:
            self.peer.lost()

    def _tell_client(self) -> None:
        if self._is_closing:
            return
        if not self._way.passes(is_answer=True):
            self._network.call_at(self._network.loop.time() + _AGAIN, self._tell_client)
            return
        self._is_closing = True
        self._to_client.is_ended = True
        self._end_client(ConnectionResetError("Connection reset by peer"))

    def _end_client(self, error: Exception | None) -> None:
        self._in_client(self._protocol.connection_lost, error)

    def _in_client(self, callback: Callable[..., object], *args: object) -> None:
        """Call something of the client, in its own process."""
        if self._client is None:
            callback(*args)
        else:
            self._network.loop.call_soon(callback, *args, context=self._client.context())

    def forget_client(self) -> None:
        """Close it as the kernel does where the client was killed."""
        if not self._is_closing:
            self._is_closing = True
            self._tell_server()


class Network:
    """Connects processes to hosts.

    Args:
        loop: The loop.
        rng: Draws how long each thing takes.
        latency: Of every way, one way, in seconds, unless another is set.

    Attributes:
        loop: As above.
        rng: As above.
        hosts: What can be connected to.
        names: Addresses behind which another one is, of the moment.
    """

    def __init__(self, loop: SimulatedLoop, rng: random.Random, latency: float = 0.0002) -> None:
        self.loop = loop
        self.rng = rng
        self._latency = latency
        self.hosts: dict[Address, Host] = {}
        self.names: dict[Address, Callable[[], Address]] = {}
        self._ways: dict[tuple[str, str], Way] = {}
        self._connections: list[Connection] = []

    def way(self, one: Process | None, other: Process) -> Way:
        """Return what lies between two processes."""
        names = ("" if one is None else one.machine), other.machine
        if names not in self._ways:
            self._ways[names] = Way(self._latency, 0.2 * self._latency)
        return self._ways[names]

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call something of the network itself, whoever runs now."""
        self.loop.call_at(when, callback, context=_OWN.context())

    async def connect(self, client: Process | None, address: Address, protocol: Any) -> Connection:
        """Open a connection, which takes a way there and back.

        Raises:
            ConnectionRefusedError: Nothing listens there.
        """
        if address in self.names:
            address = self.names[address]()
        while True:
            host = self.hosts.get(address)
            way = self.way(client, host.process if host else Process("nowhere"))
            await asyncio.sleep(2 * way.latency + self.rng.random() * way.jitter)
            if not way.is_cut and not way.loses_answers:
                break
            await asyncio.sleep(_AGAIN)
        # The kernel of a server that is frozen takes connections, for a while.
        if host is None or host.process.is_dead or self.hosts.get(address) is not host:
            raise ConnectionRefusedError(111, "Connection refused")
        connection = Connection(self, client, host.process, way, protocol)
        peer = host.accept(connection)
        if peer is None:
            raise ConnectionResetError(104, "Connection reset by peer")
        connection.peer = peer
        self._connections = [each for each in self._connections if not each.is_closing()]
        self._connections.append(connection)
        protocol.connection_made(connection)
        return connection

    def kill(self, process: Process) -> None:
        """End a process, and its connections, as the kernel does."""
        process.kill()
        for each in self._connections:
            if each.is_of(process):
                each.forget_client()

    def cut_connections(self, one: Process | None, server: Process | None) -> None:
        """Reset connections: of one process, to one server, or all of them."""
        for each in list(self._connections):
            of_one = one is None or each.is_of(one)
            if of_one and (server is None or each.is_to(server)) and not each.is_closing():
                each.end()
                if each.peer is not None:
                    each.peer.lost()


class _Nobody(Process):
    """The network itself: it is neither frozen nor killed."""


_OWN = _Nobody("network")
