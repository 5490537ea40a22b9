"""Runs the project's scripts in a Lua of the version that Redis has, against a model of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lupa.lua51 import LuaRuntime, lua_type  # type: ignore[import-untyped]  # it has no annotations

from tests.simulation.resp import Failure, Simple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[[list[bytes]], Any]

_LIBRARY = """
function(host, sha1hex)
  redis = {
    pcall = host,
    sha1hex = sha1hex,
    call = function(...)
      local reply = host(...)
      if type(reply) == 'table' and reply.err then error(reply, 0) end
      return reply
    end,
    error_reply = function(text) return {err = text} end,
    status_reply = function(text) return {ok = text} end,
    acl_check_cmd = function() return true end,
  }
  return function(script, keys, args)
    local has_ended, answer = pcall(script, keys, args)
    return has_ended, answer
  end
end
"""


class Lua:
    """One interpreter. Scripts are compiled once, whichever server runs them."""

    def __init__(self) -> None:
        self._lua = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self._scripts: dict[bytes, Any] = {}
        self._call: Call | None = None
        self._run = self._lua.eval(_LIBRARY)(self._host, _sha1hex)

    def run(self, text: bytes, keys: Sequence[bytes], args: Sequence[bytes], call: Call) -> Any:
        """Return the answer of a script.

        Args:
            text: Its source.
            keys: ``KEYS``.
            args: ``ARGV``.
            call: Carries out a command and returns its answer.
        """
        script = self._scripts.get(text)
        if script is None:
            source = b"function(KEYS, ARGV)\n" + text + b"\nend"
            script = self._scripts[text] = self._lua.eval(source)
        self._call = call
        has_ended, answer = self._run(
            script, self._lua.table_from(keys), self._lua.table_from(args)
        )
        if has_ended:
            return _to_redis(answer)
        if lua_type(answer) == "table" and answer[b"err"] is not None:
            return Failure(answer[b"err"].decode())
        return Failure(f"ERR {answer!r}")

    def _host(self, *words: Any) -> Any:
        assert self._call is not None
        return self._to_lua(self._call([_word(each) for each in words]))

    def _to_lua(self, value: Any) -> Any:
        if value is None:
            return False
        if isinstance(value, list):
            return self._lua.table_from([self._to_lua(each) for each in value])
        if isinstance(value, Simple):
            return self._lua.table_from({b"ok": value.text})
        if isinstance(value, Failure):
            return self._lua.table_from({b"err": value.text.encode()})
        return value


def _word(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"%d" % value if float(value).is_integer() else f"{value:.17g}".encode()


def _to_redis(value: Any) -> Any:
    if value is None or value is False:
        return None
    if isinstance(value, int | float):  # True is 1
        return int(value)
    return value if isinstance(value, bytes) else _table_to_redis(value)


def _table_to_redis(value: Any) -> Any:
    if value[b"err"] is not None:
        return Failure(value[b"err"].decode())
    if value[b"ok"] is not None:
        return Simple(value[b"ok"])
    found: list[Any] = []
    while (each := value[len(found) + 1]) is not None:
        found.append(_to_redis(each))
    return found


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
