"""The data set: makes it, holds it, and says how to list it."""

from __future__ import annotations

from revokebus.connection.script import Script
from revokebus.scripts.fragments import DATA_SET, HOLDING, LOADING, PROCESS

OPEN = Script.of(
    DATA_SET
    + PROCESS
    + LOADING
    + """
note_load(meta, KEYS[3], ARGV[4])
return {epoch, last}
"""
)

# After a write that any Redis allows, one that is full does not refuse the next one of a script.
HOLD = Script.of(HOLDING + "redis.call('PERSIST', KEYS[2]) hold(KEYS[1], ARGV[1])")

# How many seconds ago the log's first row was written, how many rows it has, and how many names
# this database; the latter two -1 where the user may not ask.
COVERAGE = Script.of("""
local time, first = redis.call('TIME'), redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local rows, names = redis.pcall('XLEN', KEYS[1]), redis.pcall('DBSIZE')
local function known(number) return type(number) == 'number' and number or -1 end
local age = first and time[1] - string.match(first[1], '^%d+') / 1000 or 0
return {string.format('%.3f', age), known(rows), known(names)}
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
