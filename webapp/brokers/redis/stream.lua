-- What is known of the event log's stream, and how it is kept within its bounds. Part of log.lua.
--
-- Every command that tells where a stream begins and ends copies the entries there, which may have a
-- megabyte each. So the hash of custom ids has fields for what is known of the stream:
--   #state    its length, its head, the bytes ever appended, the first position, and the bytes
--             appended up to that one; 0 if these are not known
--   #floor    the position before the first; none if the first one tells
--   #ahead    '<time> <position>': the head at a time (ms) at which it was after the server's clock
--   #sweep    a cursor over the custom ids
--   #deleted  how many entries were too large, until a hub has read that
--
-- Each trimmed entry costs one command at most, and about as many bytes are trimmed as were added.

local stream, ids, queue = KEYS[1], KEYS[2], KEYS[3]
local last_position = '18446744073709551615-18446744073709551615'
local max_events, max_age, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_foreign_bytes = 8388608 -- of an entry that another program or an older hub appended
local log, stored -- what is known of the stream, and what the hash has of that
local deleted -- how many entries were too large

local function is_position(text) return #text < 42 and string.match(text, '^%d+%-%d+$') end

local function is_before(one, other)
  local ms, seq = string.match(one, '^(%d+)%-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)%-(%d+)$')
  if ms == other_ms then ms, other_ms = seq, other_seq end
  return #ms < #other_ms or #ms == #other_ms and ms < other_ms
end

local function entry_at(position)
  return redis.pcall('XRANGE', stream, position, position, 'COUNT', 1)[1]
end

local function delete(entry)
  local done = redis.pcall('XDEL', stream, entry[1]) == 1
  if done then deleted = deleted + 1 end
  return done
end

-- Hubs of another version, and people, write to the stream, too. So what is known counts only if the
-- length is the same and nothing follows the head.
local function is_current(known)
  if known.length ~= redis.call('XLEN', stream) then return false end
  if known.head == last_position then return true end
  local next_entry = redis.pcall('XRANGE', stream, '(' .. known.head, '+', 'COUNT', 1)
  return not next_entry.err and #next_entry == 0
end

local function look_at_stream(known)
  local head, first, last, length = examine(stream)
  if last and is_too_large(last, max_foreign_bytes) and delete(last) then
    redis.pcall('XADD', stream, '*', 'deleted', '') -- followers start at the head, and must find it
    return look_at_stream(known)
  end
  -- If the known head is gone, and was not trimmed, this is another event log.
  local another = known and known.length > 0 and
    (is_before(head, known.head) or not entry_at(known.head))
  local total = total_of(last)
  return {
    length = length, head = head, first = first and first[1], another = another,
    total = total or known and known.total or 0, first_total = total and total_of(first) or 0,
  }
end

local function load()
  local exists = require_type(stream, 'stream')
  require_type(ids, 'hash')
  delete_unless(queue, 'list')
  local fields = redis.call('HMGET', ids, '#floor', '#state', '#ahead', '#deleted')
  local floor, state, ahead = unpack(fields)
  stored = {floor = floor, state = state, ahead = ahead, deleted = fields[4]}
  deleted = tonumber(fields[4]) or 0
  local pattern = '^(%d+) (%d+%-%d+) (%d+) (%S+) (%d+)$'
  local length, head, total, first, first_total = string.match(state or '', pattern)
  local known = length and {
    length = tonumber(length), head = head, total = tonumber(total),
    first = first ~= '-' and first or nil, first_total = tonumber(first_total),
  }
  if floor and not is_position(floor) then floor = false end
  if not exists then
    log = {length = 0, total = known and known.total or 0, first_total = 0, missing = true}
  elseif known and is_current(known) then
    log = known
  else
    log = look_at_stream(known)
    if log.another and floor and is_before(floor, known.head) then floor = false end
  end
  log.floor, log.ahead = floor, ahead
end

local function store(field, value)
  if value ~= stored[field] then
    redis.call('HDEL', ids, '#' .. field) -- a server whose memory is full may refuse the other one
    if value then redis.call('HSET', ids, '#' .. field, value) end
    stored[field] = value
  end
end

local function save()
  local first_total = number(log.first_total)
  local parts = {number(log.length), log.head, number(log.total), log.first or '-', first_total}
  store('floor', log.floor)
  store('ahead', log.ahead)
  store('deleted', deleted > 0 and number(deleted))
  store('state', table.concat(parts, ' '))
end

-- A new event log begins at a position of the current time, which is its floor until it is trimmed.
local function create()
  local position = redis.call('XADD', stream, '*', 'born', '')
  redis.call('XDEL', stream, position)
  log.head, log.floor, log.missing = position, position, nil
end

local function look_at_first()
  local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  log.first = entry and entry[1]
  log.first_total = not entry and log.total or total_of(entry) or 0
  log.length = redis.call('XLEN', stream)
end

-- This drops whole nodes, which costs next to nothing; the floor then lies before the first entry.
-- Call it even if nothing is to be dropped: because it writes, a master that became a replica
-- refuses it.
local function trim_to(length)
  if redis.call('XTRIM', stream, 'MAXLEN', '~', math.max(1, length)) == 0 then return false end
  log.floor = false
  look_at_first()
  return true
end

-- Entries of 0.1.0 have no total. While the first entry is one, the server estimates the bytes.
local function bytes_kept()
  if log.first_total > 0 or not log.first then return log.total - log.first_total end
  local bytes = redis.pcall('MEMORY', 'USAGE', stream, 'SAMPLES', 1000)
  return type(bytes) == 'number' and bytes or 0
end

-- The newest entry stays.
local function trim_bytes(most)
  if log.first_total == 0 then
    local kept = bytes_kept()
    if kept > most then trim_to(math.floor(log.length * most / kept)) end
  end
  local some = 1 -- more of them, one at a time, until they fill the oldest node
  while log.first_total > 0 and log.length > some and log.total - log.first_total > most do
    some = trim_to(log.length - some) and 1 or some + 1
  end
end

-- Drop the events up to a position. This is exact, and the floor is the newest dropped entry: a
-- subscriber who has that one has missed nothing, however long no event was published.
local function drop_up_to(position)
  local last = redis.call('XREVRANGE', stream, position, '-', 'COUNT', 1)[1]
  if not last then return end
  local next_entry = redis.call('XRANGE', stream, '(' .. last[1], '+', 'COUNT', 1)[1]
  redis.call('XTRIM', stream, unpack(next_entry and {'MINID', next_entry[1]} or {'MAXLEN', 0}))
  log.floor = last[1]
  look_at_first()
end

-- Positions after the server's clock tell no age: the clock was ahead once. Their events count from
-- when they are seen, so they are dropped after between one and two times max_age.
local function trim_old()
  local now = clock()
  local oldest = number(math.max(1, now - max_age)) .. '-0'
  if log.first and is_before(log.first, oldest) then drop_up_to('(' .. oldest) end
  local is_ahead = log.first and is_before(number(now + 1) .. '-0', log.head)
  local at, head = string.match(is_ahead and log.ahead or '', '^(%d+) (%d+%-%d+)$')
  at = tonumber(at)
  if not is_ahead then
    log.ahead = false
  elseif not at or at > now or now - at > max_age then
    if at and at <= now and is_position(head) then drop_up_to(head) end
    log.ahead = number(now) .. ' ' .. log.head
  end
end

local function trim()
  trim_to(max_events)
  trim_bytes(max_bytes)
  trim_old()
end

