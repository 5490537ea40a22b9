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

# Which process this is, and how much it loaded last, of which history; nil if it may not be asked.
_PROCESS = """
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
_LOADED = """
local function note_load(meta, hold_key, settling)
  local loaded = loaded_last()
  if not loaded or redis.call('HGET', meta, 'loaded') == loaded then return end
  redis.call('PERSIST', meta)
  redis.pcall('HSET', meta, 'loaded', loaded)
  hold(hold_key, settling)
end
"""

OPEN = Script.of(
    _DATA_SET
    + _PROCESS
    + _LOADED
    + """
note_load(meta, KEYS[3], ARGV[4])
return {epoch, last}
"""
)

# After a write that any Redis allows, one that is full does not refuse the next one of a script.
HOLD = Script.of(_HOLD + "redis.call('PERSIST', KEYS[2]) hold(KEYS[1], ARGV[1])")

# PERSIST is a write that changes nothing. A former primary that may no longer accept writes refuses
# it, and so does a primary that lacks replicas, or a disk.
_REFUSAL = """
local persisted = redis.pcall('PERSIST', KEYS[1])
local refused = type(persisted) == 'table' and persisted or nil
"""

# Where most Sentinels, or most of a cluster, confirm it, such a primary may answer all the same if
# nothing has happened that it would have to note: it is the process that was noted, and has loaded
# what was noted; its clock goes on as the reader knows it; no instance holds or repairs.
_BELIEVED = """
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
_UNSETTLED = (
    _HOLD
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

# What some records hold, false for each that is not there; and whether it means anything that one
# is not. A data set that the copy does not belong to, or none, has just lost it, perhaps. Of most
# tokens there is no record, and all is as it was: one question for all of them then says so.
HAS = Script.of(
    _REFUSAL
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
    + _PROCESS
    + _BELIEVED
    + _UNSETTLED
    + _LOADED
    + """
local found = {}
for i = 4, #KEYS do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then value = '' end
  found[#found + 1] = value
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
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
    _PROCESS
    + _UNSETTLED
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

# A heartbeat: when it was sent, for how many seconds it counts, and what it says; and what does not
# change, where that is not known. After PERSIST one that is full takes the rest.
_BEAT = """
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
# some minutes. A row that the reader knows is not sent again. A page is bounded in rows and in
# bytes, but has one row more than the reader knows if there is one. Where the data set is something
# else, none is found, and the reader makes one. A heartbeat that is due is sent by the way.
READ = Script.of(
    _REFUSAL
    + _AS_BEFORE
    + _PROCESS
    + _BELIEVED
    + _UNSETTLED
    + _BEAT
    + """
local named = redis.pcall('HMGET', meta, 'epoch', 'server', 'seen', 'settling', 'settling_until',
  'format', 'life', 'life_until', 'asked', 'elected')
if is_of_another_type(named) and not refused then
  return {{false, false, ''}, {}, 0, 0, clock, '0', 1, 0, 1, ''}
end
if named.err then return named end
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
local rows, size, more, after = {}, 0, 0, ARGV[1]
repeat
  local some = redis.pcall('XRANGE', log, after, '+', 'COUNT', 10)
  if some.err and not is_of_another_type(some) then return some end
  for _, row in ipairs(some) do
    size = size + (#rows > 0 and #row[2][2] or 0)
    if #rows > 1 and (size > tonumber(ARGV[8]) or #rows == tonumber(ARGV[2])) then
      more = 1
      break
    end
    rows[#rows + 1] = row
    after = '(' .. row[1]
  end
until more == 1 or #some < 10
local first = rows[1]
if first and first[1] == ARGV[1] then
  local payload = first[2][2]
  if payload == ARGV[7] or (#payload > 512 and redis.sha1hex(payload) == ARGV[7]) then
    first[2] = {}
  end
end
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
local data_set = {epoch, named[6], id}
return {
  data_set, rows, left, repairing, clock, longest_life or '0', beats, more, is_wanted and 1 or 0,
  refused and refused.err or ''
}
"""
)

BEAT = Script.of(
    _BEAT
    + """
local refused = beat(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
tell(KEYS[2], ARGV[1], ARGV[4])
return refused or 1
"""
)

FAREWELL = Script.of(
    _BEAT
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

# Whether an instance may list everything: as long as few enough others do. Each says for how long
# it counts, and says it again. Where that cannot be written, or read, nothing limits them.
START = Script.of("""
local time, most, life = redis.call('TIME'), tonumber(ARGV[2]), tonumber(ARGV[3])
local now, others = time[1] * 1000 + math.floor(time[2] / 1000), 0
local held = redis.pcall('HGETALL', KEYS[1])
if held.err then
  if string.find(held.err, 'WRONGTYPE') then redis.pcall('DEL', KEYS[1]) end
  held = {}
end
for i = 1, #held, 2 do
  local left = (tonumber(held[i + 1]) or 0) - now
  if left <= 0 or left > life then
    redis.pcall('HDEL', KEYS[1], held[i])
  elseif held[i] ~= ARGV[1] then
    others = others + 1
  end
end
if others >= most then return 0 end
redis.pcall('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + life))
redis.pcall('PEXPIRE', KEYS[1], life)
return 1
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
