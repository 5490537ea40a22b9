"""Records revocations, puts them in the log and publishes them, in one step."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import DATA_SET, ROWS

# A record is only ever lengthened: its life is reckoned by both clocks, Redis's and the writer's,
# the longest reckoning counts, and the value, from which others read, keeps the later expiry and
# the later cut-off, and the session that both keep: `merged_cut_off` has the same decision in
# Python. Nothing but the data set's name is written before XADD, so that a Redis that is
# full or fenced refuses as a whole. A writer that may not publish has written all the same. One
# that knows a data set does not make, or take, another: it would be acknowledged by a server that
# has lost everything, or by a former primary that has come back empty.
WRITE = Script.of(
    DATA_SET
    + ROWS
    + """
local channel, retention, payload = ARGV[6], ARGV[7], ARGV[8]
local function stored(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or nil
end
local function later(one, other)
  if one == 'null' or other == 'null' then return 'null' end
  return tonumber(one) > tonumber(other) and one or other
end
local function merged(old, value)
  local row, known = row_of(value), row_of(old or '')
  if not row or not known or row.what ~= known.what then return value end
  local cut_off, keeps = later(row.cut_off, known.cut_off), ''
  for _, each in ipairs({row, known}) do
    if each.kept then
      local before = later(cut_off_of(each.kept, row), cut_off_of(each.kept, known))
      if before ~= 'null' and (cut_off == 'null' or tonumber(before) < tonumber(cut_off)) then
        keeps = ',' .. each.kept .. ',' .. before
        break
      end
    end
  end
  return row.what .. later(row.till, known.till) .. ',' .. cut_off .. keeps .. ']]'
end
local function log_row()
  local oldest = string.format('%.0f', math.max(0, (now - tonumber(retention)) * 1000))
  return redis.call('XADD', log, 'MINID', '~', oldest, '*', 'r', payload)
end
local function record(key, value, expires_at, remaining)
  if value == '' then value = payload end
  local life = math.ceil(math.max(expires_at - now, remaining))
  if life > 0 and redis.call('SET', key, value, 'NX', 'EX', string.format('%.0f', life)) then
    return
  end
  local held, old = redis.call('PTTL', key), stored(key)
  value = merged(old, value)
  if old ~= value or (held >= 0 and held < (life - 1) * 1000) then
    life = math.max(life, math.ceil(held / 1000))
    if life > 0 then
      redis.call('SET', key, value, 'EX', string.format('%.0f', life))
    end
  end
end
local function publish(id)
  local message = table.concat({'RB', epoch, last[1], id, payload}, ' ')
  local heard = redis.pcall('PUBLISH', channel, message)
  return {id, 'granted', type(heard) == 'table' and heard.err or '', epoch}
end
local id = log_row()
for i = 4, #KEYS do
  local at = 9 + 3 * (i - 4)
  record(KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
end
return publish(id)
"""
)
