"""The sessions that refresh: each refresh token is used once."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import LOADING, PROCESS, ROWS, SETTLING

# A session that is to be seen by its user is an entry of the user's list, which lives as long as
# the session that lives longest.
_LIST = """
local function list(key, session, entry, life)
  local listed = redis.pcall('HSET', key, session, entry)
  if type(listed) == 'table' and string.find(listed.err or '', 'WRONGTYPE') then
    redis.call('DEL', key)
    redis.call('HSET', key, session, entry)
  end
  if redis.call('PTTL', key) < life then
    redis.call('PEXPIRE', key, string.format('%.0f', life))
  end
end
local function used_and_till(entry)
  local began, refreshed, till = string.match(entry, '^([%d.]+) ([%d.]+) ([%d.]+) ')
  began, refreshed, till = tonumber(began or ''), tonumber(refreshed or ''), tonumber(till or '')
  if began and refreshed and till then return math.max(began, refreshed), till end
end
-- What has expired goes, and what was revoked, and then what was used longest ago.
local function shorten(key, session, most, records)
  if redis.call('HLEN', key) > 10 * most then return redis.call('DEL', key) end
  local now, held, kept = redis.call('TIME')[1] + 0, redis.call('HGETALL', key), {}
  for i = 1, #held, 2 do
    local used, till = used_and_till(held[i + 1])
    if not used or till < now or redis.call('EXISTS', records .. held[i]) == 1 then
      redis.call('HDEL', key, held[i])
    elseif held[i] ~= session then
      kept[#kept + 1] = {used, held[i]}
    end
  end
  table.sort(kept, function(one, other) return one[1] > other[1] end)
  for i = most, #kept do redis.call('HDEL', key, kept[i][2]) end
end
"""

SIGN_IN = Script.of(
    _LIST
    + """
list(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]))
shorten(KEYS[1], ARGV[1], tonumber(ARGV[4]), ARGV[5])
return 0
"""
)

# The sessions of a user that have not expired.
SIGN_INS = Script.of(
    _LIST
    + """
local now, held, found = redis.call('TIME')[1] + 0, redis.pcall('HGETALL', KEYS[1]), {}
if held.err and string.find(held.err, 'WRONGTYPE') then return found end
if held.err then return held end
for i = 1, #held, 2 do
  local _, till = used_and_till(held[i + 1])
  if till and till >= now then
    found[#found + 1] = held[i]
    found[#found + 1] = held[i + 1]
  else
    redis.call('HDEL', KEYS[1], held[i])
  end
end
return found
"""
)

# A refresh token is exchanged, unless something that is recorded refuses it: a record without a
# cut-off, one that cannot be read, or a cut-off after the token, as that is for its session.
# `protocol/exchange.py` has the same
# decision in Python, with its reasons. During a hold or a repair no token is exchanged.
EXCHANGE = Script.of(
    PROCESS
    + SETTLING
    + LOADING
    + _LIST
    + ROWS
    + """
local meta, session = KEYS[1], KEYS[4]
local entry = ARGV[16] or ''
local presented, issued_at = tonumber(ARGV[4]), tonumber(ARGV[5])
local since, whole = tonumber(ARGV[6]), ARGV[7] == '1'
local grace, in_flight, life = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local offered, jti = ARGV[11], ARGV[13]
local function text(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'table' and '' or value
end
for i = 5, #KEYS - (entry ~= '' and 1 or 0) do
  local value = text(KEYS[i])
  if value then
    local row = row_of(value)
    local cut_off = row and tonumber(cut_off_of(ARGV[14], row))
    if not cut_off or cut_off > since or (whole and cut_off == since) then
      return {'revoked', 0, ''}
    end
  end
end
local epoch = redis.call('HGET', meta, 'epoch')
if not epoch or (ARGV[3] ~= '' and epoch ~= ARGV[3]) then return {'other', 0, ''} end
note_load(meta, KEYS[2], ARGV[1])
redis.call('PERSIST', meta)
local left, repairing =
  look_whether_settled(meta, KEYS[2], KEYS[3], ARGV[1], ARGV[2], this_server(), ARGV[19])
if left > 0 or repairing == 1 then return {'held', left, repairing} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local generation, state, times, note = presented, 'd', {}, ''
local held = text(session)
if held then
  local listed
  generation, state, listed, note = string.match(held, '^(%d+) ([dp]) ([%d,]+) (.*)$')
  generation = tonumber(generation or '')
  if not generation then return {'revoked', 0, ''} end
  for each in string.gmatch(listed, '%d+') do times[#times + 1] = tonumber(each) end
end
if presented > generation then
  if times[1] / 1000 > issued_at then return {'replayed', 0, ''} end
  times = {}
elseif held and presented == generation then
  local last = '"' .. jti .. '"]'
  if string.sub(note, -#last) ~= last then return {'replayed', 0, ''} end
elseif presented < generation then
  local at, pending = times[generation - presented], generation - presented == 1 and state == 'p'
  if (at and math.abs(now - at) < grace) or (pending and note == offered) then
    return {'repeated', generation, note}
  end
  if not pending then return {'replayed', 0, ''} end
  if math.abs(now - times[1]) < in_flight then return {'unsettled', 0, ''} end
  table.remove(times, 1)
end
local kept = {string.format('%.0f', now)}
for i = 1, math.min(#times, tonumber(ARGV[12]) - 1) do
  if math.abs(now - times[i]) >= grace then break end
  kept[#kept + 1] = string.format('%.0f', times[i])
end
life = math.max(life, redis.call('PTTL', session))
local record = {string.format('%.0f', presented + 1), 'p', table.concat(kept, ','), offered}
redis.call('SET', session, table.concat(record, ' '), 'PX', string.format('%.0f', life))
if entry ~= '' then
  list(KEYS[#KEYS], ARGV[15], entry, life)
  local most = tonumber(ARGV[17])
  if redis.call('HLEN', KEYS[#KEYS]) > most then shorten(KEYS[#KEYS], ARGV[15], most, ARGV[18]) end
end
return {'granted', presented + 1, offered}
"""
)

# The pair of that generation has reached the instance that asked for it.
DELIVERED = Script.of("""
local held, life = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if type(held) ~= 'string' or life <= 0 then return 0 end
local generation, times, note = string.match(held, '^(%d+) p %d+([%d,]*) (.*)$')
if generation ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local record = {generation, 'd', now .. times, note}
redis.call('SET', KEYS[1], table.concat(record, ' '), 'PX', string.format('%.0f', life))
return 1
""")

# What instances have exchanged lately, where Redis has lost it or does not know that it was
# delivered: generation, life and record of each.
RESTORE = Script.of("""
for i = 1, #KEYS do
  local held, record = redis.pcall('GET', KEYS[i]), ARGV[3 * i]
  local form = '^(%d+) ([dp]) [%d,]+ (.*)$'
  local generation, state, note = string.match(type(held) == 'string' and held or '', form)
  local known, given = tonumber(generation or -1), tonumber(ARGV[3 * i - 2])
  local is_same = known == given and state == 'p' and note == select(3, string.match(record, form))
  if known < given or is_same then redis.call('SET', KEYS[i], record, 'PX', ARGV[3 * i - 1]) end
end
return #KEYS
""")
