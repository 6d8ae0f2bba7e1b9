-- What is known of the event log's stream. Part of log.lua and topics.lua.
--
-- Every command that tells where a stream begins and ends copies the entries there, which may have a
-- megabyte each. So the hash of own ids has fields for what is known of the stream:
--   #state    its length, its head, the bytes ever appended, the first position, and the bytes
--             appended up to that one; 0 if these are not known
--   #floor    the position before the first; none if the first one tells
--   #ahead    '<time> <position>': the head at a time (ms) at which it was after the server's clock
--   #sweep    a cursor over the own ids
--   #deleted  how many entries were too large, until a hub has read that
--   #expires  when the first event expires (ms): see expirations.lua
--   #ends     the position of the newest event that ended a topic: see topic_ends.lua
--   #index    what is known of the index by topic: see topic_index.lua
--   #indexer  '<process> <time>': this process builds the index, until a time (ms)
--   #removing the removals that go on: see removals.lua

local stream, ids, queue, followers, directory, held, remnants = unpack(KEYS)
local last_position = '18446744073709551615-18446744073709551615'
local max_events, max_age, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_foreign_bytes = 8388608 -- of an entry that another program or an older hub appended
local log, stored -- what is known of the stream, and what the hash has of that
local index -- what is known of the index by topic
local topic_ends -- see topic_ends.lua
local max_count = 32 -- entries of one command
local deleted -- how many entries were too large

local function is_position(text) return #text < 42 and string.match(text, '^%d+%-%d+$') end

-- Most positions have 13 digits before the dash.
local function is_before(one, other)
  if string.byte(one, 14) == 45 and string.byte(other, 14) == 45 then
    if #one == #other then return one < other end
    if string.sub(one, 1, 13) ~= string.sub(other, 1, 13) then return one < other end
    return #one < #other
  end
  local ms, seq = string.match(one, '^(%d+)%-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)%-(%d+)$')
  if ms == other_ms then ms, other_ms = seq, other_seq end
  return #ms < #other_ms or #ms == #other_ms and ms < other_ms
end

local function entry_at(position)
  return redis.pcall('XRANGE', stream, position, position, 'COUNT', 1)[1]
end

local function ms_of(position) return tonumber(string.match(position, '^%d+')) end

-- Whether a removal goes on: its line has a position where it is.
local function is_removing()
  return log.removing and string.find('\n' .. log.removing, '\n%d+%-%d+ %d') ~= nil
end

-- Hubs of another version, and people, write to the stream, too. So what is known counts only if the
-- length is the same and nothing follows the head.
local function is_current(known)
  if known.length ~= redis.call('XLEN', stream) then return false end
  if known.head == last_position then return true end
  local next_entry = redis.pcall('XRANGE', stream, '(' .. known.head, '+', 'COUNT', 1)
  return not next_entry.err and #next_entry == 0
end

local streams = lazily(function()
  local function delete(entry)
    local done = redis.pcall('XDEL', stream, entry[1]) == 1
    if done then deleted = deleted + 1 end
    return done
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

  -- A new event log begins at a position of the current time, which is its floor until it is trimmed.
  local function create()
    local position = redis.call('XADD', stream, '*', 'born', '')
    redis.call('XDEL', stream, position)
    log.head, log.floor, log.missing, log.removing = position, position, nil, false
    redis.call('DEL', held, remnants)
    redis.call('HDEL', ids, '#removing')
  end

  local function look_at_first()
    local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    log.first = entry and entry[1]
    log.first_total = not entry and log.total or total_of(entry) or 0
    log.length = redis.call('XLEN', stream)
  end

  -- Call a function with each entry that a command finds from a position to an edge, until it returns
  -- no size. They are read one at a time until their size is known: the server serves nobody else
  -- meanwhile.
  local function walk(command, from, edge, limit, bytes, visit)
    local seen, size, together = 0, 0, 1
    while seen < limit and size < bytes do
      -- Beyond its ends, XRANGE may refuse, and XREVRANGE would walk through the whole stream.
      if edge == '+' and not is_before(from, log.head) then return end
      if edge == '-' and not (log.first and is_before(log.first, from)) then return end
      local count = math.min(together, limit - seen)
      local entries = redis.call(command, stream, '(' .. from, edge, 'COUNT', count)
      for _, entry in ipairs(entries) do
        local visited = visit(entry)
        from, seen, size = entry[1], seen + 1, size + (visited or bytes)
        if size >= bytes then return end
      end
      if #entries < count then return end
      local fitting = math.floor((bytes - size) * seen / size)
      together = math.max(1, math.min(2 * together, max_count, fitting))
    end
  end

  return {
    delete = delete, look_at_stream = look_at_stream, create = create,
    look_at_first = look_at_first, walk = walk,
  }
end)

-- Some positions in the index are of events that were trimmed. All topics will be looked at: if that
-- has begun, once more after it has ended.
local function mark_stale() index.rounds = index.rounds > 0 and 2 or 1 end

-- What is known of the index counts only if it is of this event log.
local function load_index(record)
  local pattern = '^(%d+%-%d+) (%S+) ([012]) (.*)$'
  local upto, first, rounds, swept = string.match(record or '', pattern)
  local is_lost = log.missing or log.another or upto and is_before(log.head, upto)
  index = {upto = not is_lost and upto, rounds = tonumber(rounds) or 0, swept = swept or ''}
  if index.upto and redis.call('EXISTS', directory) == 0 then index.upto = false end
  -- Another hub, which may know no index, has trimmed the stream.
  if first ~= log.first and first ~= '-' then mark_stale() end
end

local function load()
  local exists = require_type(stream, 'stream')
  require_type(ids, 'hash')
  delete_unless(queue, 'list')
  local names = {'#floor', '#state', '#ahead', '#deleted', '#index', '#ends', '#removing', '#expires'}
  local fields = redis.call('HMGET', ids, unpack(names))
  local floor, state, ahead = unpack(fields)
  stored = {
    floor = floor, state = state, ahead = ahead, deleted = fields[4], index = fields[5],
    ends = fields[6], expires = fields[8],
  }
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
    log = streams().look_at_stream(known)
    if log.another and floor and is_before(floor, known.head) then floor = false end
  end
  log.floor, log.ahead, log.removing = floor, ahead, fields[7]
  log.ends = fields[6] and is_position(fields[6])
  log.expires = tonumber(fields[8] or nil) or false
  load_index(fields[5])
end

local function index_record()
  if not index.upto then return false end
  return table.concat({index.upto, log.first or '-', index.rounds, index.swept}, ' ')
end

local function save()
  local first_total = number(log.first_total)
  local parts = {number(log.length), log.head, number(log.total), log.first or '-', first_total}
  local changed, set = {}, {}
  local function note(field, value)
    if value == stored[field] then return end
    changed[#changed + 1], stored[field] = '#' .. field, value
    if value then set[#set + 1], set[#set + 2] = '#' .. field, value end
  end
  note('floor', log.floor)
  note('ahead', log.ahead)
  note('deleted', deleted > 0 and number(deleted))
  note('state', table.concat(parts, ' '))
  note('ends', log.ends)
  note('expires', log.expires and number(log.expires))
  note('index', index_record())
  -- A server whose memory is full may refuse the second one.
  if #changed > 0 then redis.call('HDEL', ids, unpack(changed)) end
  if #set > 0 then redis.call('HSET', ids, unpack(set)) end
end
