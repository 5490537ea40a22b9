"""What a Redis holds, and the commands that read and change it: those that this project uses.

Values are what Redis's are: a string is `bytes`, a hash a dict, a stream a `Stream`. Whatever
changes a key names it in `Data.touched`, which is how replicas and snapshots follow.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.resp import OK, Failure, Simple

_WRONG_TYPE = Failure("WRONGTYPE Operation against a key holding the wrong kind of value")
_SYNTAX = Failure("ERR syntax error")

EntryId = tuple[int, int]
Command = Callable[["Data", list[bytes]], Any]


@dataclass
class Stream:
    """Entries in the order of their ids."""

    entries: list[tuple[EntryId, list[bytes]]] = field(default_factory=list)
    last: EntryId = (0, 0)


class Data:
    """One database.

    Args:
        now: Returns the server's time, in milliseconds since the epoch.

    Attributes:
        values: The keys and what they hold.
        ends: When those end that do, in milliseconds since the epoch.
        touched: The keys that were changed since somebody has looked.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self.values: dict[bytes, Any] = {}
        self.ends: dict[bytes, int] = {}
        self.touched: dict[bytes, None] = {}

    def saved(self) -> tuple[dict[bytes, Any], dict[bytes, int]]:
        """Return all of it, as a snapshot has it."""
        return copy.deepcopy(self.values), dict(self.ends)

    def load(self, saved: tuple[dict[bytes, Any], dict[bytes, int]]) -> None:
        """Hold what a snapshot has."""
        values, ends = saved
        self.values, self.ends = copy.deepcopy(values), dict(ends)

    def get(self, key: bytes) -> Any:
        """Return what a key holds; None where it is not there, or has ended."""
        end = self.ends.get(key)
        if end is not None and end <= self._now():
            self.remove(key)
        return self.values.get(key)

    def put(self, key: bytes, value: Any, end: int | None) -> None:
        """Hold a value, until `end`."""
        self.values[key] = value
        self.ends.pop(key, None)
        if end is not None:
            self.ends[key] = end
        self.touched[key] = None

    def remove(self, key: bytes) -> bool:
        """Hold it no longer; return whether it was there."""
        self.touched[key] = None
        self.ends.pop(key, None)
        return self.values.pop(key, None) is not None

    def live(self) -> list[bytes]:
        """Return the keys that are there."""
        return [key for key in list(self.values) if self.get(key) is not None]


WRITES: dict[str, bool] = {}
"""The commands that write, and whether one that is full refuses them."""

COMMANDS: dict[str, Command] = {}


def _command(
    name: str, *, writes: bool = False, grows: bool = False
) -> Callable[[Command], Command]:
    def register(function: Command) -> Command:
        COMMANDS[name] = function
        if writes or grows:
            WRITES[name] = grows
        return function

    return register


def _typed(data: Data, key: bytes, kind: type) -> tuple[Any, Failure | None]:
    value = data.get(key)
    if value is not None and type(value) is not kind:
        return None, _WRONG_TYPE
    return value, None


@_command("GET")
def _get(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], bytes)
    return wrong or value


@_command("MGET")
def _mget(data: Data, words: list[bytes]) -> Any:
    values = [data.get(key) for key in words[1:]]
    return [value if isinstance(value, bytes) else None for value in values]


@_command("SET", grows=True)
def _set(data: Data, words: list[bytes]) -> Any:
    key, value, *rest = words[1:]
    options = [word.upper() for word in rest]
    end: int | None = None
    for unit, factor in ((b"EX", 1000), (b"PX", 1)):
        if unit in options:
            try:
                life = int(rest[options.index(unit) + 1])
            except ValueError:
                return Failure("ERR value is not an integer or out of range")
            if life <= 0:
                return Failure("ERR invalid expire time in 'set' command")
            end = data._now() + life * factor
    if b"NX" in options and data.get(key) is not None:
        return None
    data.put(key, value, end)
    return OK


@_command("DEL", writes=True)
def _del(data: Data, words: list[bytes]) -> Any:
    return sum(data.get(key) is not None and data.remove(key) for key in words[1:])


@_command("RENAME", writes=True)
def _rename(data: Data, words: list[bytes]) -> Any:
    value = data.get(words[1])
    if value is None:
        return Failure("ERR no such key")
    end = data.ends.get(words[1])
    data.remove(words[1])
    data.put(words[2], value, end)
    return OK


@_command("EXISTS")
def _exists(data: Data, words: list[bytes]) -> Any:
    return sum(data.get(key) is not None for key in words[1:])


@_command("PTTL")
def _pttl(data: Data, words: list[bytes]) -> Any:
    if data.get(words[1]) is None:
        return -2
    end = data.ends.get(words[1])
    return -1 if end is None else end - data._now()


@_command("PEXPIRE", writes=True)
def _pexpire(data: Data, words: list[bytes]) -> Any:
    value = data.get(words[1])
    if value is None:
        return 0
    life = int(words[2])
    if life <= 0:
        data.remove(words[1])
    else:
        data.put(words[1], value, data._now() + life)
    return 1


@_command("PERSIST", writes=True)
def _persist(data: Data, words: list[bytes]) -> Any:
    value = data.get(words[1])
    if value is None or words[1] not in data.ends:
        return 0
    data.put(words[1], value, None)
    return 1


@_command("SCAN")
def _scan(data: Data, words: list[bytes]) -> Any:
    # The cursor is a place in the sorted names: what is there from beginning to end is found.
    pattern, count = b"*", 10
    for name, value in zip(words[2::2], words[3::2], strict=True):
        if name.upper() == b"MATCH":
            pattern = value
        elif name.upper() == b"COUNT":
            count = int(value)
    names = sorted(data.live())
    at = int(words[1])
    some = names[at : at + count]
    after = b"%d" % (at + count) if at + count < len(names) else b"0"
    text = pattern.decode("latin-1").replace("[", "[[]")
    return [after, [key for key in some if fnmatch.fnmatchcase(key.decode("latin-1"), text)]]


@_command("DBSIZE")
def _dbsize(data: Data, _: list[bytes]) -> Any:
    return len(data.live())


@_command("FLUSHALL", writes=True)
def _flushall(data: Data, _: list[bytes]) -> Any:
    for key in list(data.values):
        data.remove(key)
    return OK


@_command("HGET")
def _hget(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    return wrong or (value or {}).get(words[2])


@_command("HEXISTS")
def _hexists(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    return wrong or int(words[2] in (value or {}))


@_command("HMGET")
def _hmget(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    return wrong or [(value or {}).get(name) for name in words[2:]]


@_command("HSCAN")
def _hscan(data: Data, words: list[bytes]) -> Any:
    pairs = _hgetall(data, words)
    return pairs if isinstance(pairs, Failure) else [b"0", pairs]


@_command("HRANDFIELD")
def _hrandfield(data: Data, words: list[bytes]) -> Any:
    # Of a fleet that is smaller than what is asked for, as each is here.
    return _hgetall(data, words)


@_command("HGETALL")
def _hgetall(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    return wrong or [each for pair in (value or {}).items() for each in pair]


@_command("HLEN")
def _hlen(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    return wrong or len(value or {})


@_command("HSET", grows=True)
def _hset(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    if wrong:
        return wrong
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    value = {} if value is None else value
    new = len(pairs.keys() - value.keys())
    data.put(words[1], value | pairs, data.ends.get(words[1]))
    return new


@_command("HSETNX", grows=True)
def _hsetnx(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    if wrong:
        return wrong
    return 0 if words[2] in (value or {}) else _hset(data, words)


@_command("HDEL", writes=True)
def _hdel(data: Data, words: list[bytes]) -> Any:
    value, wrong = _typed(data, words[1], dict)
    if wrong or not value:
        return wrong or 0
    gone = value.keys() & set(words[2:])
    if left := {name: each for name, each in value.items() if name not in gone}:
        data.put(words[1], left, data.ends.get(words[1]))
    else:
        data.remove(words[1])
    return len(gone)


def _entry_id(text: bytes, missing: int) -> EntryId:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number) if number else missing


def _bytes_of(entry_id: EntryId) -> bytes:
    return b"%d-%d" % entry_id


@_command("XADD", grows=True)
def _xadd(data: Data, words: list[bytes]) -> Any:
    stream, wrong = _typed(data, words[1], Stream)
    if wrong:
        return wrong
    rest, oldest = words[2:], None
    if rest[0].upper() == b"MINID":
        approximately = rest[1] in (b"~", b"=")
        oldest = _entry_id(rest[2] if approximately else rest[1], 0)
        rest = rest[3 if approximately else 2 :]
    stream = Stream() if stream is None else stream
    if rest[0] == b"*":
        milliseconds = max(data._now(), stream.last[0])
        same = milliseconds == stream.last[0]
        entry_id = milliseconds, stream.last[1] + 1 if same else 0
    else:
        entry_id = _entry_id(rest[0], 0)
        if entry_id <= stream.last:
            return Failure(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item"
            )
    entries = [*stream.entries, (entry_id, rest[1:])]
    if oldest is not None:
        entries = [entry for entry in entries if entry[0] >= oldest]
    data.put(words[1], Stream(entries, entry_id), data.ends.get(words[1]))
    return _bytes_of(entry_id)


def _limits(least: bytes, most: bytes) -> tuple[EntryId, EntryId]:
    low, high = (0, 0), (2**64, 2**64)
    if least != b"-":
        low = _entry_id(least.lstrip(b"("), 0)
        if least.startswith(b"("):
            low = low[0], low[1] + 1
    if most != b"+":
        high = _entry_id(most.lstrip(b"("), 2**64)
        if most.startswith(b"("):
            high = high[0], high[1] - 1
    return low, high


def _entries(data: Data, words: list[bytes], least: bytes, most: bytes) -> Any:
    stream, wrong = _typed(data, words[1], Stream)
    if wrong or stream is None:
        return wrong or []
    low, high = _limits(least, most)
    return [
        [_bytes_of(entry_id), fields]
        for entry_id, fields in stream.entries
        if low <= entry_id <= high
    ]


def _counted(found: Any, words: list[bytes]) -> Any:
    if isinstance(found, Failure) or len(words) == 4:
        return found
    return found[: int(words[5])]


@_command("XRANGE")
def _xrange(data: Data, words: list[bytes]) -> Any:
    return _counted(_entries(data, words, words[2], words[3]), words)


@_command("XREVRANGE")
def _xrevrange(data: Data, words: list[bytes]) -> Any:
    found = _entries(data, words, words[3], words[2])
    return found if isinstance(found, Failure) else _counted(found[::-1], words)


@_command("XLEN")
def _xlen(data: Data, words: list[bytes]) -> Any:
    stream, wrong = _typed(data, words[1], Stream)
    return wrong or (0 if stream is None else len(stream.entries))


@_command("TYPE")
def _type(data: Data, words: list[bytes]) -> Any:
    names = {bytes: b"string", dict: b"hash", Stream: b"stream", type(None): b"none"}
    return Simple(names[type(data.get(words[1]))])


@_command("TIME")
def _time(data: Data, _: list[bytes]) -> Any:
    now = data._now()
    return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]
