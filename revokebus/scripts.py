"""The Lua scripts: what must happen in one step inside Redis."""

from __future__ import annotations

# The epoch names the data set: whoever finds none makes one, and everybody else then knows that
# Redis has lost what it had. The log is never empty: a position needs a row that can be missed.
_DATA_SET = """
local meta, log = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if redis.call('HSETNX', meta, 'epoch', ARGV[1]) == 1 then
  redis.call('HSET', meta, 'format', ARGV[2], 'began', string.format('%.3f', now))
end
local epoch, format = unpack(redis.call('HMGET', meta, 'epoch', 'format'))
if format ~= ARGV[2] then
  return redis.error_reply('REVOKEBUS the data has format ' .. tostring(format))
end
local function last_row() return redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1] end
if not last_row() then redis.call('XADD', log, '*', 'r', ARGV[3]) end
local last = last_row()
"""

OPEN = _DATA_SET + "return {epoch, last}"

# How old the data set is, and whether somebody is writing back what an older one had.
UNSETTLED = """
local time = redis.call('TIME')
local began = tonumber(redis.call('HGET', KEYS[1], 'began'))
local age = began and tonumber(time[1]) + tonumber(time[2]) / 1000000 - began or 0
return {string.format('%.3f', age), redis.call('EXISTS', KEYS[2])}
"""

# A record is only ever lengthened: its life is reckoned by both clocks, Redis's and the writer's,
# the longest reckoning counts, and the value, from which others read the expiry, keeps the later
# one. Nothing but the data set's name is written before XADD, so that a Redis that is full or
# fenced refuses as a whole. A writer that may not publish has written all the same.
WRITE = (
    _DATA_SET
    + """
local channel, single_use, retention, payload = ARGV[4], ARGV[5] == '1', ARGV[6], ARGV[7]
local records = (#ARGV - 7) / 3
local function stored(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or nil
end
if single_use then
  for i = 3 + records, #KEYS do
    if stored(KEYS[i]) then return {'', 'revoked', ''} end
  end
  if stored(KEYS[3]) then return {'', 'spent', ''} end
end
local function split(value) return string.match(value, '^(.*,)([%d.]+)%]%]$') end
local oldest = string.format('%.0f', math.max(0, (now - tonumber(retention)) * 1000))
local id = redis.call('XADD', log, 'MINID', '~', oldest, '*', 'r', payload)
for i = 3, 2 + records do
  local at = 8 + 3 * (i - 3)
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
READ = """
local alive = redis.call('EXPIRE', KEYS[3], ARGV[3])
local named = redis.call('HMGET', KEYS[1], 'epoch', 'format')
return {named, redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2]), alive}
"""
