"""Heartbeats: which instances there are."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import BEATING

BEAT = Script.of(
    BEATING
    + """
local refused = beat(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
tell(KEYS[2], ARGV[1], ARGV[4])
return refused or 1
"""
)

FAREWELL = Script.of(
    BEATING
    + """
local refused = beat(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
redis.pcall('HDEL', KEYS[2], ARGV[1])
return refused or 1
"""
)

# What time it is; for how many milliseconds Redis has had its data and the heartbeats, and been the
# same process, which is not known without INFO; whether the heartbeats can be read; and whether its
# clock agrees with when a tick was seen. With a number of seconds, all instances are asked for a
# heartbeat with each tick, so long.
ROLL = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '0' and redis.call('PERSIST', KEYS[1]) and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'asked', string.format('%.3f', now / 1000 + ARGV[1]))
end
local roll_since, is_roll = redis.pcall('HGET', KEYS[2], 'since'), 1
if type(roll_since) == 'table' then
  if not string.find(roll_since.err, 'WRONGTYPE') then return roll_since end
  roll_since, is_roll = nil, 0
end
local began, server, since, seen =
  unpack(redis.call('HMGET', KEYS[1], 'began', 'server', 'since', 'seen'))
local info = redis.pcall('INFO', 'server')
local id = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
local from = math.max(tonumber(began or '') or math.huge, tonumber(since or '') or 0)
from = math.max(from, roll_since and roll_since / 1000 or math.huge)
if not id or id ~= server then from = math.huge end
-- A clock that has jumped makes everything old.
local is_steady = not seen or math.abs(now / 1000 - (tonumber(seen) or 0)) <= 40
if not is_steady then from = math.huge end
return {now, math.max(0, now - 1000 * from), is_roll, is_steady and 1 or 0}
""")

# Heartbeats that count no more go, unless their instances have come back meanwhile.
FORGET = Script.of("""
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.pcall('HDEL', KEYS[2], ARGV[i])
  end
end
return 1
""")
