"""A model of a Redis server: a process with its data and clients, and what can go wrong in it."""

from __future__ import annotations

import copy
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.simulation.data import COMMANDS, WRITES, Data
from tests.simulation.loop import Process
from tests.simulation.resp import OK, Failure, Requests, encode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.loop import SimulatedClock, SimulatedLoop
    from tests.simulation.lua import Lua
    from tests.simulation.network import Address, Connection, Network

    Saved = tuple[dict[bytes, Any], dict[bytes, int]]

_READONLY = Failure("READONLY You can't write against a read only replica.")
_MISCONF = Failure(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "
    "disk."
)
_NOREPLICAS = Failure("NOREPLICAS Not enough good replicas to write.")
_OOM = Failure("OOM command not allowed when used memory > 'maxmemory'.")
_CLUSTERDOWN = Failure("CLUSTERDOWN The cluster is down")
_NOSCRIPT = Failure("NOSCRIPT No matching script. Please use EVAL.")
_REPLICATION_DELAY = 0.0005
_AGAIN = 0.1


class _Client:
    """A connection, as the server sees it."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._requests = Requests()
        self._held: deque[list[bytes]] = deque()
        self._waits = False
        self.channels: set[bytes] = set()
        self.is_read_only = False

    def received(self, data: bytes) -> None:
        """Take what has arrived, unless the server is stopped: then when it goes on."""
        self._server.later(lambda: self._feed(data))

    def lost(self) -> None:
        """Forget it: what it had sent is done all the same."""
        self._server.later(lambda: self._server.forget(self))

    def _feed(self, data: bytes) -> None:
        self._held += self._requests.feed(data)
        self._go_on()

    def _go_on(self) -> None:
        while self._held and not self._waits:
            words = self._held.popleft()
            if words[0].upper() == b"WAIT":
                self._waits = True
                self._server.wait(int(words[1]), int(words[2]), self._waited)
                return
            for answer in self._server.execute(words, self):
                self.send(answer)

    def _waited(self, count: int) -> None:
        self._waits = False
        self.send(count)
        self._go_on()

    def send(self, answer: Any) -> None:
        """Answer, or send what was published."""
        self._connection.answer(encode(answer))

    def end(self) -> None:
        """Close it."""
        self._connection.end()


class Replica:
    """A replica, as its primary sees it: what it has yet to receive.

    Attributes:
        delay: How many seconds later than usual it receives everything.
        is_new: Whether it has to receive everything, because its primary was started again.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.queue: deque[tuple[float, int, list[tuple[bytes, Any, int | None]], list[Any]]] = (
            deque()
        )
        self.delay = 0.0
        self.acknowledged = 0
        self.is_cut = False
        self.is_new = False


class Server:
    """One server.

    Args:
        name: What it is called in a trace.
        loop: The loop.
        network: Where it listens.
        address: At which address.
        clock: Its machine's clocks.
        lua: Runs scripts.
        rng: Draws its ``run_id``.

    Attributes:
        address: As above.
        process: The process that runs at the moment.
        clock: As above.
        data: What it holds.
        saved: Its last snapshot.
        ever_held: Every key that it has held at some time.
        primary: The one that it is a replica of.
        is_full: Whether it refuses what makes its data grow.
        cannot_save: Whether it refuses writes because it cannot write to disk.
        min_replicas: How many replicas must be there for it to accept writes.
        most_clients: How many it takes.
        policy: What it evicts where it is full, as INFO says.
        is_down: Whether the cluster, as far as it knows, has lost nodes that it needs.
        moved_to: Where the cluster has its slot, if not here.
        extra: Answers questions that only some servers know: Sentinels, nodes of a cluster.
    """

    def __init__(
        self,
        name: str,
        loop: SimulatedLoop,
        network: Network,
        address: Address,
        clock: SimulatedClock,
        lua: Lua,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._loop = loop
        self._network = network
        self.address = address
        self.clock = clock
        self._lua = lua
        self._rng = rng
        self.data = Data(self._now)
        self.saved: Saved = ({}, {})
        self.primary: Server | None = None
        self.replicas: list[Replica] = []
        self.ever_held: set[bytes] = set()
        self._offset = 0
        self.is_full = self.cannot_save = False
        self.min_replicas = 0
        self.most_clients = 10_000
        self.policy = "noeviction"
        self.is_down = self._reads = False
        self.moved_to: Address | None = None
        self.extra: dict[bytes, Callable[[list[bytes]], Any]] = {}
        self.process = Process(name)
        self._starts = 0
        self._begin()

    def _now(self) -> int:
        return int(self.clock.wall() * 1000)

    # Its life

    def _begin(self) -> None:
        self._starts += 1
        self.process = Process(self.name, self._starts)
        self.run_id = f"{self._rng.getrandbits(160):040x}"
        self.keys_loaded = 0
        self._since = self.clock.elapsed()
        self._scripts: dict[bytes, bytes] = {}
        self._clients: dict[_Client, None] = {}
        self._context = self.process.context()
        self._network.hosts[self.address] = self

    def kill(self) -> None:
        """End it at once: nobody listens at its address."""
        clients, self._clients = self._clients, {}
        self.process.kill()
        self._network.hosts.pop(self.address, None)
        for client in clients:
            client.end()
        for replica in self.replicas:
            replica.queue.clear()

    def start(self, saved: Saved) -> None:
        """Start it again, with what a snapshot has."""
        self.data = Data(self._now)
        self.data.load(saved)
        self.data.touched.clear()
        self._begin()
        self.keys_loaded = len(saved[0])
        self._offset += 1
        for replica in self.replicas:
            replica.is_new = True
            self._send_to(replica)

    def come_back(self) -> None:
        """Start a replica again, with nothing; its primary sends it everything."""
        self.start(({}, {}))
        if self.primary is not None:
            self.primary.send_all_to(self)

    def send_all_to(self, server: Server) -> None:
        """Send a replica everything anew."""
        for each in self.replicas:
            if each.server is server:
                each.is_new = True
                self._send_to(each)

    def reload(self, saved: Saved) -> bool:
        """Hold something else in the same process; return whether INFO tells of it."""
        known, self.keys_loaded = self.keys_loaded, len(saved[0])
        self.data.load(saved)
        return self.keys_loaded != known

    def start_afresh(self) -> None:
        """Hold nothing any more."""
        self.data = Data(self._now)

    def later(self, callback: Callable[[], None]) -> None:
        """Do something in its process: when it goes on, where it is stopped."""
        self._loop.call_soon(callback, context=self._context)

    def accept(self, connection: Connection) -> _Client | None:
        """Return a client for a new connection."""
        client = _Client(self, connection)
        if len(self._clients) >= self.most_clients:
            client.send(Failure("ERR max number of clients reached"))
            client.end()
            return client
        self._clients[client] = None
        return client

    def forget(self, client: _Client) -> None:
        """Forget a client that has gone."""
        self._clients.pop(client, None)

    def cut_subscribers(self) -> None:
        """End every connection that is subscribed, as the limit of output buffers does."""
        for client in [each for each in self._clients if each.channels]:
            self.forget(client)
            client.end()

    def flush_scripts(self) -> None:
        """Forget the scripts, as SCRIPT FLUSH does."""
        self._scripts.clear()

    # Replication

    def follow(self, primary: Server) -> None:
        """Become a replica of this one only, and hold what it does."""
        self.promote()
        primary.promote()
        self.primary = primary
        self.data.load(primary.data.saved())
        self.data.touched.clear()
        primary.replicas.append(Replica(self))

    def promote(self) -> None:
        """Become a primary, with what has arrived until now."""
        if self.primary is not None:
            former, self.primary = self.primary, None
            former.replicas = [each for each in former.replicas if each.server is not self]

    @property
    def accepts(self) -> bool:
        """Whether it can be written to at this moment."""
        return not self.process.is_stopped and self._refusal("SET") is None

    @property
    def can_be_held(self) -> bool:
        """Whether a hold can be set at this moment: also where it is full."""
        return not self.process.is_stopped and self._refusal("PERSIST") is None

    def _replicate(self, published: list[tuple[bytes, bytes]]) -> None:
        touched, self.data.touched = self.data.touched, {}
        self.ever_held.update(touched)
        if not touched and not published:
            return
        self._offset += 1
        changes = [
            (key, copy.copy(self.data.values.get(key)), self.data.ends.get(key)) for key in touched
        ]
        for replica in self.replicas:
            due = self._loop.time() + replica.delay
            replica.queue.append((due, self._offset, changes, published))
            self._send_to(replica)

    def _send_to(self, replica: Replica) -> None:
        def arrive() -> None:
            stopped = replica.server.process.is_frozen or replica.server.process.is_dead
            if replica.is_cut or stopped or self.process.is_stopped:
                if (replica.queue or replica.is_new) and replica in self.replicas:
                    self._network.call_at(self._loop.time() + _AGAIN, arrive)
                return
            if replica.is_new and replica in self.replicas:
                replica.is_new = False
                replica.queue.clear()
                replica.server.data.load(self.data.saved())
                replica.acknowledged = self._offset
            while replica.queue and replica in self.replicas:
                if replica.queue[0][0] > self._loop.time():
                    return  # what comes with it is called later
                _, offset, changes, published = replica.queue.popleft()
                replica.server.apply(changes, published)
                replica.acknowledged = offset

        self._network.call_at(self._loop.time() + replica.delay + _REPLICATION_DELAY, arrive)

    def apply(self, changes: list[tuple[bytes, Any, int | None]], published: list[Any]) -> None:
        """Do what the primary has done."""
        for key, value, end in changes:
            if value is None:
                self.data.remove(key)
            else:
                self.data.put(key, copy.copy(value), end)
        for channel, message in published:
            self._tell(channel, message)
        self._replicate(published)

    def wait(self, replicas: int, milliseconds: int, done: Callable[[int], None]) -> None:
        """Call `done` once so many replicas have everything, or after a time."""
        offset = self._offset
        until = self._loop.time() + milliseconds / 1000

        def look() -> None:
            count = sum(each.acknowledged >= offset for each in self.replicas)
            if count >= replicas or self._loop.time() >= until:
                done(count)
            else:
                self._loop.call_at(self._loop.time() + 0.001, look, context=self._context)

        look()

    # Commands

    def execute(self, words: list[bytes], client: _Client | None = None) -> list[Any]:
        """Carry out a command, and return the answers."""
        name = words[0].upper().decode()
        if name in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return self._subscribe(words, client)
        if name == "PING" and client is not None and client.channels:
            return [[b"pong", b""]]
        if name == "READONLY" and client is not None:
            client.is_read_only = True
            return [OK]
        # A replica answers by itself where that is wanted, for the node that it copies.
        reads = client is not None and client.is_read_only and self.primary is not None
        self._reads = reads and self.primary is not None and self.primary.moved_to is None
        published: list[tuple[bytes, bytes]] = []
        if name in ("EVAL", "EVALSHA"):
            answer = self._script(name, words, published)
        else:
            answer = self._refusal(name) or self._one(name, words, published)
        self._replicate(published)
        return [answer]

    def _refusal(self, name: str) -> Failure | None:
        if self.moved_to is not None and name in COMMANDS and name != "TIME" and not self._reads:
            return _moved(self.moved_to)
        if self.is_down and name in COMMANDS and name != "TIME":
            return _CLUSTERDOWN
        return self._refusal_of_write(name) if name in WRITES else None

    def _refusal_of_write(self, name: str) -> Failure | None:
        if self.primary is not None:
            return _READONLY
        if self.cannot_save:
            return _MISCONF
        if sum(not each.is_cut for each in self.replicas) < self.min_replicas:
            return _NOREPLICAS
        return _OOM if self.is_full and WRITES[name] else None

    def _one(self, name: str, words: list[bytes], published: list[tuple[bytes, bytes]]) -> Any:
        if (command := COMMANDS.get(name)) is not None:
            return command(self.data, words)
        if (own := self.extra.get(words[0].upper())) is not None:
            return own(words)
        if name == "PUBLISH":
            published.append((words[1], words[2]))
            return self._tell(words[1], words[2])
        other = getattr(self, f"_do_{name.lower()}", None)
        return Failure(f"ERR unknown command '{name}'") if other is None else other(words)

    def _script(self, name: str, words: list[bytes], published: list[tuple[bytes, bytes]]) -> Any:
        if name == "EVALSHA":
            text = self._scripts.get(words[1])
            if text is None:
                return _NOSCRIPT
        else:
            text = words[1]
            digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
            self._scripts[digest] = text
        count = int(words[2])
        if self.is_down:
            return _CLUSTERDOWN
        keys, args = words[3 : 3 + count], words[3 + count :]
        if self.moved_to is not None and keys and not self._reads:
            return _moved(self.moved_to)
        has_written = False

        def call(each: list[bytes]) -> Any:
            nonlocal has_written
            command = each[0].upper().decode()
            # What has written something is not stopped half-way.
            if not has_written and (refusal := self._refusal(command)) is not None:
                return refusal
            has_written = has_written or command in WRITES
            return self._one(command, each, published)

        return self._lua.run(text, keys, args, call)

    def _subscribe(self, words: list[bytes], client: _Client | None) -> list[Any]:
        assert client is not None
        answers = []
        for channel in words[1:]:
            if words[0].upper() == b"SUBSCRIBE":
                client.channels.add(channel)
            else:
                client.channels.discard(channel)
            answers.append([words[0].lower(), channel, len(client.channels)])
        return answers

    def _tell(self, channel: bytes, message: bytes) -> int:
        heard = [each for each in self._clients if channel in each.channels]
        for client in heard:
            client.send([b"message", channel, message])
        return len(heard)

    def _do_ping(self, _: list[bytes]) -> Any:
        return _MISCONF if self.cannot_save else OK

    def _do_auth(self, _: list[bytes]) -> Any:
        return OK

    def _do_select(self, _: list[bytes]) -> Any:
        return OK

    def _do_pubsub(self, words: list[bytes]) -> Any:
        return [words[2], sum(words[2] in each.channels for each in self._clients)]

    def _do_config(self, words: list[bytes]) -> Any:
        known = {b"save": b"60 1", b"min-replicas-to-write": b"%d" % self.min_replicas}
        return [words[2], known[words[2]]] if words[2] in known else []

    def _do_script(self, words: list[bytes]) -> Any:
        if words[1].upper() == b"EXISTS":
            return [int(each in self._scripts) for each in words[2:]]
        digest = hashlib.sha1(words[2], usedforsecurity=False).hexdigest().encode()
        self._scripts[digest] = words[2]
        return digest

    def _do_info(self, _: list[bytes]) -> Any:
        uptime = int(self.clock.elapsed() - self._since)
        role = "master" if self.primary is None else "slave"
        history = (self.primary or self).run_id
        return (
            f"# Server\r\nredis_version:7.4.0\r\nrun_id:{self.run_id}\r\n"
            f"uptime_in_seconds:{uptime}\r\nmaxmemory_policy:{self.policy}\r\nevicted_keys:0\r\n"
            f"master_replid:{history}\r\nrdb_last_load_keys_loaded:{self.keys_loaded}\r\n"
            f"aof_enabled:1\r\nrole:{role}\r\nconnected_slaves:{len(self.replicas)}\r\n"
        ).encode()


def _moved(address: Address) -> Failure:
    host, port = address
    return Failure(f"MOVED 0 {host}:{port}")
