"""Pieces of Lua that several scripts share."""

from __future__ import annotations

# Until a hold has run out, nobody takes the copy for proven: somebody may know more than Redis.
HOLDING = """
local function hold(key, milliseconds)
  if redis.call('PTTL', key) < tonumber(milliseconds) then
    redis.pcall('SET', key, '1', 'PX', milliseconds)
  end
end
"""

# The epoch names the data set: whoever finds none, or something else, makes one, and everybody else
# then knows that Redis has lost what it had: at once, because it is published. The log is never
# empty: a position needs a row that can be missed. Where all is there nothing is written, so that a
# Redis that is full can still be listed. Format 2 differs in how refresh tokens were exchanged: who
# takes it over keeps older versions out.
DATA_SET = (
    HOLDING
    + """
local meta, log = KEYS[1], KEYS[2]
local function is_of_another_type(reply) return string.find(reply.err or '', 'WRONGTYPE') end
local named = redis.pcall('HMGET', meta, 'epoch', 'format')
if named.err and not is_of_another_type(named) then return named end
local epoch, format = unpack(named)
if ARGV[5] ~= '' and epoch ~= ARGV[5] then return {'', 'other', ''} end
if named.err then redis.call('DEL', meta) end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if not epoch then
  epoch, format = ARGV[1], ARGV[2]
  local began = string.format('%.3f', now)
  redis.call('HSET', meta, 'epoch', epoch, 'format', format, 'began', began)
  hold(KEYS[3], ARGV[4])
  redis.pcall('PUBLISH', ARGV[6], table.concat({'RB', epoch, '0-0', '0-0', ARGV[3]}, ' '))
end
if format == '2' and ARGV[2] == '3' then
  redis.call('HSET', meta, 'format', '3')
  format = '3'
end
if format ~= ARGV[2] then
  return redis.error_reply('REVOKEBUS the data has format ' .. tostring(format))
end
local function last_row() return redis.pcall('XREVRANGE', log, '+', '-', 'COUNT', 1) end
local rows = last_row()
if rows.err then
  if not is_of_another_type(rows) then return rows end
  redis.call('DEL', log)
end
if not rows[1] then
  redis.call('XADD', log, '*', 'r', ARGV[3])
  rows = last_row()
end
local last = rows[1]
"""
)

# Which process this is, and how much it loaded last, of which history; nil if it may not be asked.
PROCESS = """
local function this_server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end
local function loaded_last()
  local replication = redis.pcall('INFO', 'replication')
  local persistence = redis.pcall('INFO', 'persistence')
  if type(replication) ~= 'string' or type(persistence) ~= 'string' then return nil end
  local loaded = string.match(replication, 'master_replid:(%x+)') or ''
  for _, each in ipairs({'loaded', 'expired'}) do
    loaded = loaded .. ' ' .. (string.match(persistence, 'load_keys_' .. each .. ':(%d+)') or '')
  end
  return loaded
end
"""

# A process that is the same, and has loaded other data, or those of another primary, shows that in
# how much it loaded last, and in the name of its history. That is noted in the data set, and one
# that says something else comes from before. Too dear for each tick: it is for who starts, or asks.
LOADING = """
local function note_load(meta, hold_key, settling)
  local loaded = loaded_last()
  if not loaded or redis.call('HGET', meta, 'loaded') == loaded then return end
  redis.call('PERSIST', meta)
  redis.pcall('HSET', meta, 'loaded', loaded)
  hold(hold_key, settling)
end
"""

# PERSIST is a write that changes nothing. A former primary that may no longer accept writes refuses
# it, and so does a primary that lacks replicas, or a disk.
REFUSAL = """
local persisted = redis.pcall('PERSIST', KEYS[1])
local refused = type(persisted) == 'table' and persisted or nil
"""

# Where most Sentinels, or most of a cluster, confirm it, such a primary may answer all the same if
# nothing has happened that it would have to note: it is the process that was noted, and has loaded
# what was noted; its clock goes on as the reader knows it; no instance holds or repairs.
BELIEVING = """
local function is_believed(meta, hold_key, repair, id, now, steady)
  if not (string.find(refused.err, 'NOREPLICAS') or string.find(refused.err, 'MISCONF')) then
    return false
  end
  if steady == '' or math.abs(now - steady) >= 5 then return false end
  local server, loaded = unpack(redis.call('HMGET', meta, 'server', 'loaded'))
  if not server or server ~= id or not loaded or loaded ~= loaded_last() then return false end
  return redis.call('EXISTS', hold_key, repair) == 0
end
"""

# For how many milliseconds the data must not be relied upon, and whether somebody writes back
# what an older data set had. A server that was restored from a snapshot, or promoted, has another
# run_id than the one noted in the data set; that it is new is then noted, and held. A clock that
# has jumped since the last tick of any instance may have let records expire: that is noted and
# held, too, unless who asks has seen that it has not. It is held for as long as the slowest
# instance needs. What lasts longer than is ever asked for comes from a clock that was set back.
# After PERSIST one that is full takes the other writes. When a tick was last is written now and
# then, because each write goes to replicas and to disk.
SETTLING = (
    HOLDING
    + """
local function at_most(key, milliseconds)
  local left = redis.call('PTTL', key)
  if left == -1 or left > milliseconds then
    redis.call('PEXPIRE', key, milliseconds)
    return milliseconds
  end
  return left
end
local function number(text) return tonumber(text or '') or 0 end
local function unsettled(
  meta, hold_key, repair, known, now, settling, turn, id, is_steady, elected, noted)
  local epoch, server, seen = known[1], known[2], known[3]
  settling = tonumber(settling)
  if known[4] and now < number(known[5]) then
    settling = math.max(settling, number(known[4]))
  end
  local unseen = seen and math.abs(now - number(seen)) or 0
  if epoch and (not seen or unseen > 10) then
    redis.pcall('HSET', meta, 'seen', string.format('%.3f', now))
  end
  if unseen > 40 and unseen > 3 * settling / 1000 and not is_steady then
    hold(hold_key, settling)
  end
  if server ~= id and id ~= '' and epoch then
    redis.pcall('HSET', meta, 'server', id, 'since', string.format('%.3f', now))
    hold(hold_key, settling)
  end
  -- One that was deposed and is the primary again may lack what another one has acknowledged.
  if epoch and number(elected) > number(noted) then
    redis.pcall('HSET', meta, 'elected', elected)
    if noted then hold(hold_key, settling) end
  end
  if redis.call('EXISTS', hold_key, repair) == 0 then return -2, 0 end
  local left, turns = at_most(hold_key, settling), at_most(repair, tonumber(turn))
  return left, turns == -2 and 0 or 1
end
local function look_whether_settled(meta, hold_key, repair, settling, turn, id, elected)
  local fields = {'epoch', 'server', 'seen', 'settling', 'settling_until', 'elected'}
  local known, time = redis.call('HMGET', meta, unpack(fields)), redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local left, repairing =
    unsettled(
      meta, hold_key, repair, known, now, settling, turn, id, false, elected, known[6])
  return left, repairing, id
end
"""
)

# What follows the value in a record: until when it lives, its cut-off, and the session that this
# keeps, if it keeps one, with that one's own cut-off. Texts come from users, so it is read from the
# end, where JSON lets no text look like syntax, and in steps that are in proportion to its length.
ROWS = """
local function row_of(record)
  local row = {}
  local head, before = string.match(record, '^(.*"),([%d.]+)%]%]$')
  if head then
    row.before = before
    row.what, row.till, row.cut_off, row.kept = string.match(
      head, '^(.*,)([%d.]+),([%d.]+),(".*")$'
    )
  else
    row.what, row.till, row.cut_off = string.match(record, '^(.*,)([%d.]+),([%d.nul]+)%]%]$')
  end
  local has_cut_off = row.cut_off == 'null' or tonumber(row.cut_off or '')
  if not tonumber(row.till or '') or not has_cut_off then return nil end
  if row.before and not tonumber(row.before) then return nil end
  return row
end
local function cut_off_of(session, row)
  return row.kept == session and row.before or row.cut_off
end
"""

# A heartbeat: when it was sent, for how many seconds it counts, and what it says; and what does not
# change, where that is not known. After PERSIST one that is full takes the rest.
BEATING = """
local function is_of_another_type(reply)
  return type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE')
end
local function write(key, instance, text)
  local written = redis.pcall('HSET', key, instance, text)
  if is_of_another_type(written) then
    redis.call('DEL', key)
    written = redis.pcall('HSET', key, instance, text)
  end
  return written
end
local function beat(key, instance, life, text)
  redis.call('PERSIST', key)
  local time = redis.call('TIME')
  local sent = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local written = write(key, instance, table.concat({sent, life, text}, ' '))
  if type(written) == 'table' then return written end
  if redis.call('HEXISTS', key, 'since') == 0 then redis.call('HSET', key, 'since', sent) end
end
local function tell(key, instance, facts)
  if redis.pcall('HEXISTS', key, instance) ~= 1 then write(key, instance, facts) end
end
"""

# A page of the log, and whether there is more. It is bounded in rows and in bytes, but has one row
# more than the reader knows if there is one. A row that the reader knows is not sent again.
PAGING = """
local function page(log, after, most, bytes, known)
  local rows, size, from = {}, 0, after
  while true do
    local some = redis.pcall('XRANGE', log, from, '+', 'COUNT', 10)
    if some.err then
      if string.find(some.err, 'WRONGTYPE') then return rows, 0 end
      return some, 0
    end
    for _, row in ipairs(some) do
      size = size + (#rows > 0 and #row[2][2] or 0)
      if #rows > 1 and (size > tonumber(bytes) or #rows == tonumber(most)) then return rows, 1 end
      if #rows == 0 and row[1] == after then
        local payload = row[2][2]
        if payload == known or (#payload > 512 and redis.sha1hex(payload) == known) then
          row[2] = {}
        end
      end
      rows[#rows + 1] = row
      from = '(' .. row[1]
    end
    if #some < 10 then return rows, 0 end
  end
end
"""
