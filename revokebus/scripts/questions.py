"""What every instance asks again and again: the log, and what is recorded of a token."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import (
    BEATING,
    BELIEVING,
    LOADING,
    PAGING,
    PROCESS,
    REFUSAL,
    SETTLING,
)

# What some records hold, false for each that is not there; and whether it means anything that one
# is not. A data set that the copy does not belong to, or none, has just lost it, perhaps. Of most
# tokens there is no record, and all is as it was: one question for all of them then says so.
HAS = Script.of(
    REFUSAL
    + """
local function has_none()
  local told, time =
    redis.pcall('HMGET', KEYS[1], 'epoch', 'server', 'seen', 'elected'), redis.call('TIME')
  if told[1] ~= ARGV[3] or told[2] ~= ARGV[4] then return false end
  if (tonumber(ARGV[8]) or 0) > (tonumber(told[4] or '') or 0) then return false end
  if math.abs(time[1] - (tonumber(told[3] or '') or 0)) > 40 then return false end
  return redis.call('EXISTS', unpack(KEYS, 2)) == 0
end
local is_quick = not refused and ARGV[3] ~= '' and ARGV[4] ~= '' and ARGV[5] == ''
if is_quick and has_none() then return 0 end
"""
    + PROCESS
    + BELIEVING
    + SETTLING
    + LOADING
    + """
local found = {}
for i = 4, #KEYS do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then value = '' end
  found[#found + 1] = value
end
local epoch = redis.pcall('HGET', KEYS[1], 'epoch')
if type(epoch) == 'table' then return refused or epoch end
local id = ARGV[4] ~= '' and ARGV[4] or this_server()
if refused then
  local time = redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local is_same = ARGV[6] ~= '' and epoch and epoch == ARGV[3]
  if is_same and is_believed(KEYS[1], KEYS[2], KEYS[3], id, now, ARGV[7]) then
    return {found, 'same', -2, 0, id, refused.err}
  end
  return refused
end
if not epoch or (ARGV[3] ~= '' and epoch ~= ARGV[3]) then return {found, 'other', 0, 0, '', ''} end
if ARGV[5] ~= '' then note_load(KEYS[1], KEYS[2], ARGV[1]) end
local left, repairing =
  look_whether_settled(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], id, ARGV[8])
return {found, 'same', left, repairing, id, ''}
"""
)

# Whether all is as the reader knows it: then the answer is the time, and nothing else is done. This
# is what is asked most often, twice a second by each instance, and so nothing in it is dear.
_AS_BEFORE = """
local meta, log, hold_key, repair, instances = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local time = redis.call('TIME')
local now, clock = time[1] + time[2] / 1000000, time[1] .. ' ' .. time[2]
local function is_as_before()
  local told = redis.pcall(
    'HMGET', meta, 'epoch', 'server', 'life', 'format', 'seen', 'asked', 'elected')
  if told[1] ~= ARGV[13] or told[2] ~= ARGV[9] or told[3] ~= ARGV[12] or told[4] ~= ARGV[11] then
    return false
  end
  if (tonumber(ARGV[15]) or 0) > (tonumber(told[7] or '') or 0) then return false end
  local unseen = now - (tonumber(told[5] or '') or 0)
  if unseen > 10 or unseen < -10 then return false end
  local left = (tonumber(told[6] or '') or 0) - now
  if left > 0 and left < 10 then return false end
  if redis.call('EXISTS', hold_key, repair) > 0 then return false end
  if redis.pcall('HEXISTS', instances, ARGV[5]) ~= 1 then return false end
  local rows = redis.pcall('XRANGE', log, ARGV[1], '+', 'COUNT', 2)
  if #rows ~= 1 or rows[1][1] ~= ARGV[1] then return false end
  local payload = rows[1][2][2]
  return payload == ARGV[7] or (#payload > 512 and redis.sha1hex(payload) == ARGV[7])
end
if not refused and ARGV[13] ~= '' and ARGV[9] ~= '' and is_as_before() then return clock end
"""

# A script and not MULTI, which a Redis that is full refuses even for reading; and one, because the
# log must not be older than the hold, nor the hold than the log. INFO is asked once a connection,
# and nothing is written that stays the same. The longest life of a token at any instance counts
# until its last token has expired, and the longest time that one needs to notice what is new, for
# some minutes. Where the data set is something else, none is found, and the reader makes one. A
# heartbeat that is due is sent by the way.
READ = Script.of(
    REFUSAL
    + _AS_BEFORE
    + PROCESS
    + BELIEVING
    + SETTLING
    + BEATING
    + PAGING
    + """
local named = redis.pcall('HMGET', meta, 'epoch', 'server', 'seen', 'settling', 'settling_until',
  'format', 'life', 'life_until', 'asked', 'elected', 'bookmark')
if is_of_another_type(named) and not refused then
  return {{false, false, '', ''}, {}, 0, 0, clock, '0', 1, 0, 1, ''}
end
-- One that may not write says that first: another server may be the primary by now.
if named.err then return refused or named end
local id, steady, settling, life = ARGV[9], ARGV[10], ARGV[3], ARGV[6]
if id == '' then id = this_server() end
local is_steady = steady ~= '' and math.abs(now - steady) < 5
local epoch, longest_life, left, repairing = named[1], named[7], -2, 0
if not refused then
  left, repairing =
    unsettled(
      meta, hold_key, repair, named, now, settling, ARGV[4], id, is_steady, ARGV[15], named[10])
else
  local is_known = ARGV[14] ~= '' and epoch and redis.pcall('HEXISTS', instances, ARGV[5]) == 1
  if not is_known or not is_believed(meta, hold_key, repair, id, now, steady) then
    return refused
  end
end
local function longest(field, own, known, till, lasts)
  if now <= till and (own < known or (own == known and till - now >= lasts)) then return end
  redis.pcall('HSET', meta, field, string.format('%.17g', own), field .. '_until',
    string.format('%.0f', now + 1.5 * lasts))
end
if epoch then
  local own = tonumber(life)
  longest('life', own, number(longest_life), number(named[8]), own)
  longest('settling', tonumber(settling), number(named[4]), number(named[5]), 200)
  if own > number(longest_life) or now > number(named[8]) then
    longest_life = string.format('%.17g', own)
  end
end
local rows, more = page(log, ARGV[1], ARGV[2], ARGV[8], ARGV[7])
if rows.err then return rows end
local first = rows[1]
-- Not where the log has another row: the position that it names would be another one.
local is_told = ARGV[16] and not refused and first and first[1] == ARGV[1] and #first[2] == 0
if is_told then
  local not_written = beat(instances, ARGV[5], ARGV[16], ARGV[17])
  if not_written then return not_written end
  tell(KEYS[6], ARGV[5], ARGV[18])
end
local asked = number(named[9]) - now
local is_asked = not is_told and not refused and asked > 0 and asked < 10
local is_wanted = is_asked or redis.pcall('HEXISTS', instances, ARGV[5]) ~= 1
local counted = redis.pcall('HLEN', instances)
local beats = type(counted) == 'number' and counted - 1 or 1
local data_set = {epoch, named[6], id, named[11] or ''}
return {
  data_set, rows, left, repairing, clock, longest_life or '0', beats, more, is_wanted and 1 or 0,
  refused and refused.err or ''
}
"""
)
