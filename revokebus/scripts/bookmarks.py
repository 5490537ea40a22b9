"""Bookmarks: one instance writes them at the primary, and others read them at replicas."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import PAGING, PROCESS, SETTLING

# Only the instance that has the turn writes one, and only where a tick would prove something: the
# server accepts writes, has the data set that is known, and nothing is held or written back. Where
# it is later than was expected when this was sent, it was held up, or the clock has jumped; where
# it is earlier, the clock was set back. The moment would be wrong. Nothing is written without an
# expectation.
MARK = Script.of(
    PROCESS
    + SETTLING
    + """
local meta, log, hold_key, repair, turn = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local holder = redis.pcall('GET', turn)
if type(holder) == 'table' then
  redis.call('DEL', turn)
elseif holder and holder ~= ARGV[1] then
  return {'taken', 0}
end
local known = redis.pcall('HMGET', meta, 'epoch', 'bookmark')
if known.err or known[1] ~= ARGV[3] then return {'other', 0} end
redis.call('PERSIST', meta)
redis.call('SET', turn, ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local id = this_server()
local left, repairing =
  look_whether_settled(meta, hold_key, repair, ARGV[4], ARGV[5], id, ARGV[6])
if left > 0 or repairing == 1 then return {'unsettled', 0} end
local moment = string.format('%.6f', now)
if ARGV[7] == '' then return {'measured', moment} end
if now > tonumber(ARGV[7]) then return {'late', moment} end
if now < tonumber(ARGV[10]) then return {'early', moment} end
local rows = redis.pcall('XREVRANGE', log, '+', '-', 'COUNT', 1)
if not rows[1] then return {'other', 0} end
local number = (tonumber(string.match(known[2] or '', '^(%d+) ') or '') or 0) + 1
local text = table.concat({
  string.format('%.0f', number), moment, string.format('%.6f', now - ARGV[8]), ARGV[9], rows[1][1]
}, ' ')
redis.call('HSET', meta, 'bookmark', text)
return {'marked', moment}
"""
)

# Another instance may have the turn by now.
END_TURN = Script.of("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

# The log of a replica, and what it knows of the rest. Nothing is written, and nothing is reckoned
# by its clock, which may be another one.
FOLLOW = Script.of(
    PAGING
    + """
local meta, log, hold_key, repair, instances = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local told = redis.pcall('HMGET', meta, 'epoch', 'format', 'bookmark', 'server', 'asked')
if told.err then
  if not string.find(told.err, 'WRONGTYPE') then return told end
  told = {}
end
local rows, more = page(log, ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if rows.err then return rows end
local marked = tonumber(string.match(told[3] or '', '^%d+ ([%d.]+) ') or '') or 0
local asked = (tonumber(told[5] or '') or 0) - marked
local is_wanted = (asked > 0 and asked < 10) or redis.pcall('HEXISTS', instances, ARGV[5]) ~= 1
local counted, time = redis.pcall('HLEN', instances), redis.call('TIME')
return {
  {told[1] or '', told[2] or '', told[3] or '', told[4] or ''},
  rows, more, redis.call('EXISTS', hold_key, repair), is_wanted and 1 or 0,
  type(counted) == 'number' and counted - 1 or 1, time[1] .. ' ' .. time[2]
}
"""
)
