"""The Lua scripts: what must happen in one step inside Redis."""

from __future__ import annotations

from revokebus.connection.script import Script

# Until a hold has run out, nobody takes the copy for proven: somebody may know more than Redis.
_HOLD = """
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
_DATA_SET = (
    _HOLD
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

# A process that is the same, and has loaded other data, or those of another primary, shows that in
# how much it loaded last, and in the name of its history. That is noted in the data set, and one
# that says something else comes from before. Too dear for each tick: it is for who starts, or asks.
_LOADED = """
local function note_load(meta, hold_key, settling)
  local replication = redis.pcall('INFO', 'replication')
  local persistence = redis.pcall('INFO', 'persistence')
  if type(replication) ~= 'string' or type(persistence) ~= 'string' then return end
  local loaded = string.match(replication, 'master_replid:(%x+)') or ''
  for _, each in ipairs({'loaded', 'expired'}) do
    loaded = loaded .. ' ' .. (string.match(persistence, 'load_keys_' .. each .. ':(%d+)') or '')
  end
  if redis.call('HGET', meta, 'loaded') == loaded then return end
  redis.call('PERSIST', meta)
  redis.pcall('HSET', meta, 'loaded', loaded)
  hold(hold_key, settling)
end
"""

OPEN = Script.of(
    _DATA_SET
    + _LOADED
    + """
note_load(meta, KEYS[3], ARGV[4])
return {epoch, last}
"""
)

# After a write that any Redis allows, one that is full does not refuse the next one of a script.
HOLD = Script.of(_HOLD + "redis.call('PERSIST', KEYS[2]) hold(KEYS[1], ARGV[1])")

# For how many milliseconds the data must not be relied upon, and whether somebody writes back
# what an older data set had. A server that was restored from a snapshot, or promoted, has another
# run_id than the one noted in the data set; that it is new is then noted, and held. A clock that
# has jumped since the last tick of any instance may have let records expire: that is noted and
# held, too. It is held for as long as the slowest instance needs. What lasts longer than is ever
# asked for comes from a clock that was set back. PERSIST is a write, so that a former primary that
# may no longer accept writes cannot answer; and after it one that is full takes the others.
_UNSETTLED = (
    _HOLD
    + """
local function at_most(key, milliseconds)
  local left = redis.call('PTTL', key)
  if left == -1 or left > milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end
local function unsettled(meta, hold_key, repair, settling, turn)
  redis.call('PERSIST', meta)
  local info, time = redis.pcall('INFO', 'server'), redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local since = string.format('%.3f', now)
  local id = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
  local known = redis.call('HMGET', meta, 'server', 'seen', 'settling', 'settling_until')
  local server, seen, slowest, slowest_until = unpack(known)
  settling = tonumber(settling)
  if now < (tonumber(slowest_until or '') or 0) then
    settling = math.max(settling, tonumber(slowest or '') or 0)
  end
  if seen and math.abs(now - seen) > math.max(30, 3 * settling / 1000) then
    redis.pcall('HSET', meta, 'seen', since)
    hold(hold_key, settling)
  end
  if id and redis.call('EXISTS', meta) == 1 and server ~= id then
    redis.pcall('HSET', meta, 'server', id, 'since', since)
    hold(hold_key, settling)
  end
  at_most(hold_key, settling)
  at_most(repair, turn + 0)
  return redis.call('PTTL', hold_key), redis.call('EXISTS', repair)
end
"""
)

# What some records hold, false for each that is not there; and whether it means anything that one
# is not. A data set that the copy does not belong to, or none, has just lost it, perhaps.
HAS = Script.of(
    _UNSETTLED
    + _LOADED
    + """
local found = {}
for i = 4, #KEYS do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then value = '' end
  found[#found + 1] = value
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or (ARGV[3] ~= '' and epoch ~= ARGV[3]) then return {found, 'other', 0, 0} end
note_load(KEYS[1], KEYS[2], ARGV[1])
return {found, 'same', unsettled(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2])}
"""
)

# What follows the value in a record: until when it lives, its cut-off, and the session that this
# keeps, if it keeps one, with that one's own cut-off. Texts come from users, so it is read from the
# end, where JSON lets no text look like syntax, and in steps that are in proportion to its length.
_ROW = """
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

# A record is only ever lengthened: its life is reckoned by both clocks, Redis's and the writer's,
# the longest reckoning counts, and the value, from which others read, keeps the later expiry and
# the later cut-off, and the session that both keep: `merged_cut_off` has the same decision in
# Python. Nothing but the data set's name is written before XADD, so that a Redis that is
# full or fenced refuses as a whole. A writer that may not publish has written all the same. One
# that knows a data set does not make, or take, another: it would be acknowledged by a server that
# has lost everything, or by a former primary that has come back empty.
WRITE = Script.of(
    _DATA_SET
    + _ROW
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
    _UNSETTLED
    + _LOADED
    + _LIST
    + _ROW
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
local left, repairing = unsettled(meta, KEYS[2], KEYS[3], ARGV[1], ARGV[2])
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

# A heartbeat: when it was sent, for how many seconds it counts, and what it says.
_HEARTBEAT = """
local function beat(key, instance, life, text)
  local time = redis.call('TIME')
  local sent = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local function send()
    redis.pcall('HSETNX', key, 'since', sent)
    return redis.pcall('HSET', key, instance, table.concat({sent, life, text}, ' '))
  end
  local sent_it = send()
  if type(sent_it) == 'table' and string.find(sent_it.err or '', 'WRONGTYPE') then
    redis.call('DEL', key)
    send()
  end
end
"""

# A script and not MULTI, which a Redis that is full refuses even for reading. A heartbeat is a help
# to operators, no condition. The longest life of a token at any instance counts until its last
# token has expired, and the longest time that one needs to notice what is new, for some minutes. A
# long row that the reader knows is not sent again. A page is bounded in rows and in bytes, but has
# one row more than the reader knows if there is one. Where the data set is something else, none is
# found, and the reader makes one.
READ = Script.of(
    _UNSETTLED
    + _HEARTBEAT
    + """
local time = redis.call('TIME')
local now = string.format('%.6f', time[1] + time[2] / 1000000)
local fields = {'epoch', 'format', 'server', 'life', 'life_until', 'settling', 'settling_until'}
local named = redis.pcall('HMGET', KEYS[1], unpack(fields))
local function is_of_another_type(reply) return string.find(reply.err or '', 'WRONGTYPE') end
if is_of_another_type(named) then return {{false, false, ''}, {}, 0, 0, now, '0', 1, 0} end
if named.err then return named end
redis.call('PERSIST', KEYS[5])
beat(KEYS[5], ARGV[5], ARGV[6], ARGV[7])
local left, repairing = unsettled(KEYS[1], KEYS[3], KEYS[4], ARGV[3], ARGV[4])
local epoch, format, server, life, life_until, settling, settling_until = unpack(named)
if epoch then
  local seen = {'HSET', KEYS[1], 'seen', now}
  local function longest(name, own, known, till, lasts)
    known, till = tonumber(known or '') or 0, tonumber(till or '') or 0
    if own > known or now + 0 > till or (own == known and till - now < lasts) then
      known = own
      local until_ = string.format('%.0f', now + 1.5 * lasts)
      for _, each in ipairs({name, string.format('%.17g', own), name .. '_until', until_}) do
        seen[#seen + 1] = each
      end
    end
    return known
  end
  life = longest('life', tonumber(ARGV[8]), life, life_until, tonumber(ARGV[8]))
  longest('settling', tonumber(ARGV[3]), settling, settling_until, 200)
  redis.pcall(unpack(seen))
end
local rows, size, after, more = {}, 0, ARGV[1], 0
repeat
  local some = redis.pcall('XRANGE', KEYS[2], after, '+', 'COUNT', 10)
  if some.err and not is_of_another_type(some) then return some end
  for _, row in ipairs(some) do
    size = size + (#rows > 0 and #row[2][2] or 0)
    if #rows > 1 and (size > tonumber(ARGV[10]) or #rows == tonumber(ARGV[2])) then
      more = 1
      break
    end
    rows[#rows + 1] = row
    after = '(' .. row[1]
  end
until more == 1 or #some < 10
local first = rows[1]
if ARGV[9] ~= '' and first and first[1] == ARGV[1] and redis.sha1hex(first[2][2]) == ARGV[9] then
  first[2] = {}
end
local beats = redis.pcall('HLEN', KEYS[5])
local instances = type(beats) == 'number' and beats - 1 or 1
local data_set = {epoch, format, server or ''}
return {data_set, rows, left, repairing, now, tostring(life or 0), instances, more}
"""
)

FAREWELL = Script.of(_HEARTBEAT + "beat(KEYS[1], ARGV[1], ARGV[2], ARGV[3])")

# For how many milliseconds Redis has had its data and the heartbeats, and been the same process,
# which is not known without INFO; and of each instance how many milliseconds ago its heartbeat was
# sent, and what that says. In one step, so that nobody is forgotten who comes back meanwhile.
PRESENT = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names, found, roll_since = redis.pcall('HGETALL', KEYS[2]), {}, nil
if names.err and not string.find(names.err, 'WRONGTYPE') then return names end
for i = 1, #names, 2 do
  local sent, life, text = string.match(names[i + 1], '^(%d+) (%d+) (.*)$')
  local silence = sent and math.max(0, now - sent)
  if names[i] == 'since' then
    roll_since = tonumber(names[i + 1])
  elseif silence and silence <= life * 1000 then
    found[#found + 1] = {names[i], silence, text}
  else
    redis.pcall('HDEL', KEYS[2], names[i])
  end
end
local began, server, since = unpack(redis.call('HMGET', KEYS[1], 'began', 'server', 'since'))
local info = redis.pcall('INFO', 'server')
local id = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
local from = math.max(tonumber(began or '') or math.huge, tonumber(since or '') or 0)
from = math.max(from, roll_since and roll_since / 1000 or math.huge)
if not id or id ~= server then from = math.huge end
return {math.max(0, now - 1000 * from), found}
""")

# How many seconds ago the log's first row was written, how many rows it has, and how many names
# this database; the latter two -1 where the user may not ask.
COVERAGE = Script.of("""
local time, first = redis.call('TIME'), redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local rows, names = redis.pcall('XLEN', KEYS[1]), redis.pcall('DBSIZE')
local function known(number) return type(number) == 'number' and number or -1 end
local age = first and time[1] - string.match(first[1], '^%d+') / 1000 or 0
return {string.format('%.3f', age), known(rows), known(names)}
""")

# Which of some commands the user may use, each given as its number of words and the words.
RIGHTS = Script.of("""
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
