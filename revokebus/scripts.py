"""The Lua scripts: what must happen in one step inside Redis."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    Argument = bytes | str | float


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which a server that has seen it knows it.

    Attributes:
        text: The Lua source.
        sha: Its SHA-1, which is Redis's name for it and protects nothing.
    """

    text: str
    sha: str

    async def run(self, redis: Redis, keys: Sequence[bytes | str], args: Sequence[Argument]) -> Any:
        """Run the script on a server, whether it has seen it before or not.

        Raises:
            redis.RedisError: The server refuses, or is away.
        """
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# Until a hold has run out, nobody takes the copy for proven: somebody may know more than Redis. It
# says whether there is one: a Redis that is full cannot make it.
_HOLD = """
local function hold(key, milliseconds)
  if redis.call('PTTL', key) < tonumber(milliseconds) then
    redis.pcall('SET', key, '1', 'PX', milliseconds)
  end
  return redis.call('PTTL', key) > 0
end
"""

# The epoch names the data set: whoever finds none makes one, and everybody else then knows that
# Redis has lost what it had. The log is never empty: a position needs a row that can be missed.
# Where all is there nothing is written, so that a Redis that is full can still be listed.
_DATA_SET = (
    _HOLD
    + """
local meta, log = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if redis.call('HEXISTS', meta, 'epoch') == 0 then
  local began = string.format('%.3f', now)
  redis.call('HSET', meta, 'epoch', ARGV[1], 'format', ARGV[2], 'began', began)
  hold(KEYS[3], ARGV[4])
end
local epoch, format = unpack(redis.call('HMGET', meta, 'epoch', 'format'))
if format ~= ARGV[2] then
  return redis.error_reply('REVOKEBUS the data has format ' .. tostring(format))
end
local function last_row() return redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1] end
if not last_row() then redis.call('XADD', log, '*', 'r', ARGV[3]) end
local last = last_row()
"""
)

OPEN = _script(_DATA_SET + "return {epoch, last}")

HOLD = _script(_HOLD + "hold(KEYS[1], ARGV[1])")

# For how many milliseconds the data must not be relied upon, and whether somebody writes back
# what an older data set had. A server that was restored from a snapshot, or promoted, has another
# run_id than the one noted in the data set; that it is new is then noted, and held. Where that
# cannot be noted, its uptime has to do. What lasts longer than is ever asked for comes from a clock
# that was set back.
_UNSETTLED = (
    _HOLD
    + """
local function at_most(key, milliseconds)
  if redis.call('PTTL', key) > milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end
local function unsettled(meta, hold_key, repair, settling, turn)
  local info, left = redis.pcall('INFO', 'server'), 0
  local id = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
  if id and redis.call('EXISTS', meta) == 1 and redis.call('HGET', meta, 'server') ~= id then
    if not hold(hold_key, settling) or type(redis.pcall('HSET', meta, 'server', id)) == 'table' then
      left = settling - 1000 * (tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or 0)
    end
  end
  at_most(hold_key, settling + 0)
  at_most(repair, turn + 0)
  return math.max(left, redis.call('PTTL', hold_key)), redis.call('EXISTS', repair)
end
"""
)

# Whether some records are there; and where not, whether that means anything. A data set that the
# copy does not belong to, or none at all, has just lost them, perhaps.
HAS = _script(
    _UNSETTLED
    + """
for i = 4, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return {'recorded', 0, 0} end
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or (ARGV[3] ~= '' and epoch ~= ARGV[3]) then return {'other', 0, 0} end
return {'missing', unsettled(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2])}
"""
)

# A record is only ever lengthened: its life is reckoned by both clocks, Redis's and the writer's,
# the longest reckoning counts, and the value, from which others read the expiry, keeps the later
# one. Nothing but the data set's name is written before XADD, so that a Redis that is full or
# fenced refuses as a whole. A writer that may not publish has written all the same. One that knows
# a data set does not make, or take, another: it would be acknowledged by a server that has lost
# everything, or by a former primary that has come back empty.
WRITE = _script(
    """
if ARGV[5] ~= '' and redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[5] then
  return {'', 'other', ''}
end
"""
    + _DATA_SET
    + """
local channel, single_use, retention, payload = ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9]
local records = (#ARGV - 9) / 3
local function stored(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or nil
end
if single_use then
  for i = 4 + records, #KEYS do
    if stored(KEYS[i]) then return {'', 'revoked', ''} end
  end
  if stored(KEYS[4]) then return {'', 'spent', ''} end
end
local function split(value) return string.match(value, '^(.*,)([%d.]+)%]%]$') end
local oldest = string.format('%.0f', math.max(0, (now - tonumber(retention)) * 1000))
local id = redis.call('XADD', log, 'MINID', '~', oldest, '*', 'r', payload)
for i = 4, 3 + records do
  local at = 10 + 3 * (i - 4)
  local value, expires_at, remaining = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local life = math.ceil(math.max(expires_at - now, remaining))
  local held, old = redis.call('PTTL', KEYS[i]), stored(KEYS[i])
  local what, till = split(old or '')
  if what and what == split(value) and tonumber(till) > expires_at then value = old end
  if old ~= value or (held >= 0 and held < (life - 1) * 1000) then
    life = math.max(life, math.ceil(held / 1000))
    if life > 0 then
      redis.call('SET', KEYS[i], value, 'EX', string.format('%.0f', life))
    end
  end
end
local message = table.concat({'RB', epoch, last[1], id, payload}, ' ')
local heard = redis.pcall('PUBLISH', channel, message)
return {id, 'granted', type(heard) == 'table' and heard.err or ''}
"""
)

# A script and not MULTI, which a Redis that is full refuses even for reading. To lengthen the
# heartbeat is a write, so that a former primary that may no longer accept writes cannot answer;
# one that is full allows it.
READ = _script(
    _UNSETTLED
    + """
local alive = redis.call('EXPIRE', KEYS[3], ARGV[3])
local left, repairing = unsettled(KEYS[1], KEYS[4], KEYS[5], ARGV[4], ARGV[5])
local named = redis.call('HMGET', KEYS[1], 'epoch', 'format')
local rows = redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])
return {named, rows, alive, left, repairing}
"""
)

# Which of some commands the user may use, each given as its number of words and the words.
RIGHTS = _script("""
if not redis.acl_check_cmd then return {} end
local allowed, at = {}, 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local ok, may = pcall(redis.acl_check_cmd, unpack(ARGV, at + 1, at + count))
  allowed[#allowed + 1] = (ok and may) and 1 or 0
  at = at + 1 + count
end
return allowed
""")
