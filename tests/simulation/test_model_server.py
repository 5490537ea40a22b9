"""The model of the server against real ones: the same commands, the same answers."""

from __future__ import annotations

import random
import re
import socket
from typing import TYPE_CHECKING, Any

import hiredis
import pytest

from revokebus.clock import SystemClock
from revokebus.scripts import data_set, exchanging, presence, questions, writing
from tests.simulation.loop import SimulatedLoop
from tests.simulation.lua import Lua
from tests.simulation.network import Network
from tests.simulation.resp import Failure, Simple
from tests.simulation.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from revokebus.testing import RedisServer

_KEYS = (b"{m}:a", b"{m}:b", b"{m}:c", b"{m}:d")
_VALUES = (b"", b"x", b"12", b'2 [["","jti","a",1.0,null]]')
_NAMES = (b"f", b"g", b"since")
# Times, and what is made of them.
_RUN_ID = re.compile(rb"[0-9a-f]{40}")
_TIMES = re.compile(rb"\d{13}(-\d+)?|\d{10}([. ]\d+)?")


class _RealClock(SystemClock):
    """The machine's, for a model that is compared with a real server."""


@pytest.fixture
def model() -> Iterator[Server]:
    loop = SimulatedLoop()
    rng = random.Random(0)  # noqa: S311 - a test's
    network = Network(loop, rng)
    clock: Any = _RealClock()
    yield Server("model", loop, network, ("model", 1), clock, Lua(), rng)
    loop.close()


class Real:
    """A connection to a real server, whose answers are taken as they come."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._reader = hiredis.Reader(replyError=_error)

    def ask(self, *words: bytes | str | int) -> Any:
        """Return the answer to a command."""
        packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # of any length, not of one
        self._socket.sendall(packed)
        while (answer := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return answer

    def close(self) -> None:
        """End it."""
        self._socket.close()


def _error(text: str) -> Exception:
    return ValueError(text)


@pytest.fixture
def real(redis_server: RedisServer) -> Iterator[Real]:
    server = Real(redis_server.host, redis_server.port)
    server.ask("FLUSHALL")
    yield server
    server.ask("FLUSHALL")
    server.close()


def _really(server: Real, words: Sequence[bytes]) -> Any:
    return _plain(server.ask(*words))


def _modelled(server: Server, words: Sequence[bytes]) -> Any:
    (answer,) = server.execute(list(words))
    return _plain(answer)


def _plain(answer: Any) -> Any:
    """Return an answer without what depends on the moment."""
    match answer:
        case Failure():
            return "error", answer.text.split(" ", 1)[0]
        case ValueError():
            return "error", str(answer).split(" ", 1)[0]
        case Simple():
            answer = answer.text
        case list():
            answer = [_plain(each) for each in answer]
        case bytes():
            answer = _TIMES.sub(b"<time>", _RUN_ID.sub(b"<run_id>", answer))
        case int() if answer > 100:
            answer = "many"
    return answer


def _command(rng: random.Random) -> list[bytes]:
    key, other, value, name = (
        rng.choice(_KEYS),
        rng.choice(_KEYS),
        rng.choice(_VALUES),
        rng.choice(_NAMES),
    )
    choices: list[list[bytes]] = [
        [b"GET", key],
        [b"SET", key, value],
        [b"SET", key, value, b"NX"],
        [b"SET", key, value, b"EX", rng.choice((b"100", b"0", b"x"))],
        [b"SET", key, value, b"NX", b"PX", b"500000"],
        [b"MGET", key, other],
        [b"DEL", key, other],
        [b"DEL", key],
        [b"EXISTS", key, other, key],
        [b"PTTL", key],
        [b"PEXPIRE", key, rng.choice((b"500000", b"0"))],
        [b"PERSIST", key],
        [b"RENAME", key, other],
        [b"TYPE", key],
        [b"DBSIZE"],
        [b"HGET", key, name],
        [b"HEXISTS", key, name],
        [b"HMGET", key, name, b"h"],
        [b"HSET", key, name, value],
        [b"HSET", key, name, value, b"h", b"1"],
        [b"HSETNX", key, name, value],
        [b"HDEL", key, name],
        [b"XADD", key, rng.choice((b"1-1", b"5-0", b"5-1", b"9-9")), b"r", value],
        [b"XADD", key, b"MINID", b"=", b"5", rng.choice((b"6-1", b"7-0", b"9-8")), b"r", value],
        [b"XADD", key, b"*", b"r", value],
        [b"XRANGE", key, rng.choice((b"-", b"5", b"(5-0")), b"+"],
        [b"XRANGE", key, b"1-1", rng.choice((b"5", b"9-9")), b"COUNT", b"2"],
        [b"XREVRANGE", key, b"+", b"-", b"COUNT", b"1"],
        [b"XLEN", key],
        [b"PUBLISH", b"{m}:ch", value],
        [b"NOSUCH", key],
        [b"EVALSHA", b"0" * 40, b"0"],
        [b"EVAL", rng.choice(_SCRIPTS), b"2", key, other, value, name],
    ]
    return rng.choice(choices)


# What the project's scripts rely on: kinds of answers, errors, and numbers.
_SCRIPTS = (
    b"return {KEYS[1], ARGV[1], 3.7, false, 'never'}",
    b"return redis.call('GET', KEYS[1])",
    b"local r = redis.pcall('GET', KEYS[1]) if type(r) == 'table' then return r.err end return r",
    b"redis.call('HSET', KEYS[1], ARGV[2], 7) return redis.call('HGETALL', KEYS[1])",
    b"return redis.error_reply('OWN words')",
    b"return redis.status_reply('FINE')",
    b"return {redis.call('PTTL', KEYS[1]) > 0, redis.sha1hex(ARGV[1])}",
    b"redis.call('SET', KEYS[1], ARGV[1]) redis.call('HGET', KEYS[1], 'a') return 1",
    b"return redis.call('SET', KEYS[1], 'x', 'NX')",
    b"return {1, nil, 2}",
    b"return string.format('%.3f', 1234567.25) .. tostring(12) .. tostring(0.5)",
    b"return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]",
    b"return tonumber(ARGV[1] or '')",
)


@pytest.mark.parametrize("seed", range(20))
def test_the_model_answers_as_a_server_does(real: Real, model: Server, seed: int) -> None:
    """What the simulation finds, and what it does not find, would mean nothing."""
    rng = random.Random(seed)  # noqa: S311 - a test's
    done: list[list[bytes]] = []
    for _ in range(300):
        words = _command(rng)
        done.append(words)
        expected, got = _really(real, words), _modelled(model, words)
        if b"HGETALL" in b" ".join(words):
            expected, got = _unordered(expected), _unordered(got)
        assert got == expected, [w for w in done if set(w) & set(words[1:])][-8:]
    assert sorted(model.data.live()) == sorted(real.ask("KEYS", "*"))


def _unordered(answer: Any) -> Any:
    return sorted(answer, key=repr) if isinstance(answer, list) else answer


_REFUSALS = {
    "full": ({"maxmemory": 1}, "is_full", True),
    "fenced": ({"min-replicas-to-write": 1}, "min_replicas", 1),
}
_DEL_IN_BETWEEN = (
    b"redis.pcall('SET', KEYS[1], 'q') redis.pcall('DEL', KEYS[2]) "
    b"return redis.call('SET', KEYS[1], 'r')"
)
_IN_REFUSAL = (
    [b"SET", b"{m}:k", b"x"],
    [b"DEL", b"{m}:k"],
    [b"PERSIST", b"{m}:k"],
    [b"PUBLISH", b"{m}:ch", b"x"],
    [b"GET", b"{m}:k"],
    [b"EVAL", b"return redis.pcall('SET', KEYS[1], 'y').err ~= nil", b"1", b"{m}:k"],
    [b"EVAL", b"return redis.call('SET', KEYS[1], 'y')", b"1", b"{m}:k"],
    # After a write that is allowed nothing is refused any more.
    [
        b"EVAL",
        b"redis.pcall('PERSIST', KEYS[1]) return redis.call('SET', KEYS[1], 'z')",
        b"1",
        b"{m}:k",
    ],
    [b"EVAL", _DEL_IN_BETWEEN, b"2", b"{m}:k", b"{m}:l"],
    [b"GET", b"{m}:k"],
)


@pytest.mark.parametrize("why", _REFUSALS)
def test_the_model_refuses_as_a_server_does(real: Real, model: Server, why: str) -> None:
    """Whether a script is refused as a whole, or goes on half done, decides about promises."""
    config, attribute, value = _REFUSALS[why]
    held = [b"SET", b"{m}:k", b"held", b"EX", b"100"]
    assert _really(real, held) == _modelled(model, held)
    for name, setting in config.items():
        real.ask("CONFIG", "SET", name, setting)
    setattr(model, attribute, value)
    try:
        for words in _IN_REFUSAL:
            assert _modelled(model, words) == _really(real, words), words
    finally:
        for name in config:
            real.ask("CONFIG", "SET", name, 0)


_DATA_SET = [b"{m}:meta", b"{m}:log", b"{m}:hold"]
_SETTLING = b"1000"


def _eval(text: str, keys: Sequence[bytes], args: Sequence[bytes]) -> list[bytes]:
    return [b"EVAL", text.encode(), b"%d" % len(keys), *keys, *args]


def _own_command(rng: random.Random) -> list[bytes]:
    epoch = rng.choice((b"", b"e" * 32))
    record = rng.choice((b"{m}:r:jti:a", b"{m}:r:jti:b"))
    made = [b"e" * 32, b"3", b"2 []", _SETTLING, epoch, b"{m}:ch"]
    watched = [b"{m}:meta", b"{m}:hold", b"{m}:repair"]
    session = b"{m}:s:s"
    cut_offs = b"null", b"5.5", b'6.5,"s1",0.0', b'7.5,"s1",4.5', b'6.5,"s2",5.5'
    row = b'["","jti","a",%d.0,%s]' % (2 * 10**9 + rng.randrange(5), rng.choice(cut_offs))
    payload = b"2 [" + row + b"]"
    generation = b"%d" % rng.randrange(4)
    exchange = [
        _SETTLING,
        b"10000",
        epoch,
        generation,
        b"1000",
        rng.choice((b"1000.5", b"6.0")),
        b"0",
        b"30000",
        b"1000",
        b"3600000",
        b'["w",1,"j%s"]' % generation,
        b"10",
        b"j%s" % generation,
        b'"s1"',
    ]
    choices = [
        _eval(data_set.OPEN.text, _DATA_SET, made),
        _eval(
            writing.WRITE.text,
            [*_DATA_SET, record],
            [*made, b"1000", payload, b"", b"2000000000.0", b"100.5"],
        ),
        _eval(data_set.HOLD.text, [b"{m}:hold"], [b"500"]),
        _eval(
            questions.HAS.text,
            [*watched, record],
            [
                *(
                    _SETTLING,
                    b"10000",
                    epoch,
                    rng.choice((b"", b"a" * 40)),
                    rng.choice((b"", b"1")),
                ),
                *(rng.choice((b"", b"1")), b""),
            ],
        ),
        _eval(
            questions.READ.text,
            [b"{m}:meta", b"{m}:log", b"{m}:hold", b"{m}:repair", b"{m}:instances", b"{m}:facts"],
            [
                *(b"0-1", b"200", _SETTLING, b"10000", b"i1", b"3600", payload, b"131072"),
                *(rng.choice((b"", b"a" * 40)), b"", b"3", b"3600", epoch),
                *(rng.choice((b"", b"1")), rng.choice((b"0", b"1", b"2"))),
                *rng.choice(((), (b"30", b"beat", b"{}"))),
            ],
        ),
        _eval(presence.BEAT.text, [b"{m}:instances", b"{m}:facts"], [b"i1", b"30", b"beat", b"{}"]),
        _eval(presence.FAREWELL.text, [b"{m}:instances", b"{m}:facts"], [b"i1", b"60", b"ended"]),
        _eval(presence.FORGET.text, [b"{m}:instances", b"{m}:facts"], [b"i1", b"x", b"i1", b"y"]),
        [b"HSCAN", b"{m}:facts", b"0", b"COUNT", b"10"],
        _eval(data_set.START.text, [b"{m}:starts"], [rng.choice((b"i1", b"i2")), b"1", b"500000"]),
        rng.choice(([b"HDEL", b"{m}:starts", b"i1"], [b"SET", b"{m}:starts", b"odd"])),
        _eval(exchanging.EXCHANGE.text, [*watched, session, record], exchange),
        _eval(exchanging.DELIVERED.text, [session], [generation]),
        [b"DEL", rng.choice((b"{m}:hold", b"{m}:meta", b"{m}:repair", record, b"{m}:log"))],
        [b"SET", rng.choice((record, b"{m}:instances", session)), b"odd"],
        [b"SET", b"{m}:repair", b"1", b"PX", b"500000"],
        [b"DEL", rng.choice((b"{m}:instances", b"{m}:facts"))],
        [b"HSET", record, b"a", b"b"],
        [b"GET", record],
        [b"GET", session],
        [b"XLEN", b"{m}:log"],
        [b"HMGET", b"{m}:meta", b"epoch", b"format", b"life"],
    ]
    return rng.choice(choices)


@pytest.mark.parametrize("seed", range(20))
def test_the_scripts_do_the_same_in_both(real: Real, model: Server, seed: int) -> None:
    """The simulation runs the project's own scripts, in another interpreter than Redis's."""
    rng = random.Random(seed)  # noqa: S311 - a test's
    for number in range(120):
        words = _own_command(rng)
        expected, got = _really(real, words), _modelled(model, words)
        assert got == expected, (number, words[0], words[2:])
