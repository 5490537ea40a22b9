"""RESP2, as far as requests to Redis and its answers need it (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_NEEDED = b"\r\n"


@dataclass(frozen=True, slots=True)
class Simple:
    """A status, as ``OK``."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An error: its code and its text."""

    text: str


OK = Simple(b"OK")


def encode(value: Any) -> bytes:
    """Return an answer as it is sent."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, Simple):
        return b"+%b\r\n" % value.text
    if isinstance(value, Failure):
        return b"-%b\r\n" % value.text.encode()
    return b"*%d\r\n%b" % (len(value), b"".join(map(encode, value)))


class Requests:
    """Cuts what a client sends into commands."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Return the commands that are complete now."""
        self._data += data
        commands = []
        while (command := self._next()) is not None:
            commands.append(command)
        return commands

    def _next(self) -> list[bytes] | None:
        end = self._data.find(_NEEDED)
        if end < 0:
            return None
        words, at = [], end + 2
        for _ in range(int(self._data[1:end])):
            end = self._data.find(_NEEDED, at)
            if end < 0:
                return None
            length, at = int(self._data[at + 1 : end]), end + 2
            if len(self._data) < at + length + 2:
                return None
            words.append(bytes(self._data[at : at + length]))
            at += length + 2
        del self._data[:at]
        return words
