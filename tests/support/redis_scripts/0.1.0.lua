-- The event log. What must be atomic is one call, and a server has all of this script or nothing.
-- KEYS: the stream; custom id -> position, and what is known of the stream; a queue of
-- '<position> <custom id>', oldest first.
-- ARGV: a verb, how many events to keep, how long (ms), how many bytes, and what the verb needs.
--
-- Every command that tells where a stream begins and ends copies the entries there, which may have a
-- megabyte each. So the hash has two more fields: #floor, and #state with the length, the head, the
-- bytes ever appended, the first entry's position and the bytes appended up to it.

local stream, ids, queue = KEYS[1], KEYS[2], KEYS[3]
local last_position = '18446744073709551615-18446744073709551615'
local max_events, max_age, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_lines, max_count = 2048, 32 -- entries of one page, and of one command
local max_total = 9007199254740992 -- from here numbers are not exact: the entry is damaged
local log -- what is known of the stream

local function check_type(key, expected)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= expected then
    error({err = 'WRONGKEY ' .. key .. ' ' .. expected})
  end
  return found ~= 'none'
end

local function number(value) return string.format('%.0f', value) end

local function is_before(one, other)
  local ms, seq = string.match(one, '^(%d+)%-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)%-(%d+)$')
  if ms == other_ms then ms, other_ms = seq, other_seq end
  return #ms < #other_ms or #ms == #other_ms and ms < other_ms
end

local function total_of(entry)
  local total = entry and entry[2][3] == 'total' and tonumber(entry[2][4])
  return total and total >= 0 and total < max_total and total
end

local function entry_at(position)
  return redis.pcall('XRANGE', stream, position, position, 'COUNT', 1)[1]
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
  local info, flat = {}, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local first, last = info['first-entry'], info['last-entry']
  local total = total_of(last) or known and known.total or 0
  local first_total = total_of(first) or known and known.first_total or 0
  -- If the known head is gone, and was not trimmed, this is another event log.
  local another = known and known.length > 0 and
    (is_before(info['last-generated-id'], known.head) or not entry_at(known.head))
  return {
    length = info['length'], head = info['last-generated-id'], total = total,
    first = first and first[1], first_total = math.min(first_total, total), another = another,
  }
end

local function load()
  local exists = check_type(stream, 'stream')
  check_type(ids, 'hash')
  local floor, state = unpack(redis.call('HMGET', ids, '#floor', '#state'))
  local pattern = '^(%d+) (%d+%-%d+) (%d+) (%S+) (%d+)$'
  local length, head, total, first, first_total = string.match(state or '', pattern)
  local known = length and {
    length = tonumber(length), head = head, total = tonumber(total),
    first = first ~= '-' and first or nil, first_total = tonumber(first_total),
  }
  if not exists then
    log = {length = 0, total = known and known.total or 0, first_total = 0, missing = true}
  elseif known and is_current(known) then
    log = known
  else
    log = look_at_stream(known)
    if log.another and floor and is_before(floor, known.head) then floor = false end
  end
  log.floor, log.stored_floor, log.stored_state = floor, floor, state
end

-- A server whose memory is full may refuse this; then the stream is examined at each call.
local function save()
  if log.floor ~= log.stored_floor then
    redis.call('HDEL', ids, '#floor')
    if log.floor then redis.call('HSET', ids, '#floor', log.floor) end
  end
  local first_total = number(log.first_total)
  local parts = {number(log.length), log.head, number(log.total), log.first or '-', first_total}
  local state = table.concat(parts, ' ')
  if state ~= log.stored_state then
    redis.call('HDEL', ids, '#state')
    redis.call('HSET', ids, '#state', state)
  end
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
  log.first_total = entry and (total_of(entry) or log.first_total) or log.total
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

-- The newest entry stays.
local function trim_bytes(most)
  local some = 1 -- more of them, one at a time, until they fill the oldest node
  while log.length > some and log.total - log.first_total > most do
    some = trim_to(log.length - some) and 1 or some + 1
  end
end

-- Trimming by age is exact, and the floor is the newest dropped entry: a subscriber who has that one
-- has missed nothing, however long no event was published.
local function trim_old()
  local time = redis.call('TIME')
  local oldest = number(math.max(1, time[1] * 1000 + math.floor(time[2] / 1000) - max_age)) .. '-0'
  if log.first and is_before(log.first, oldest) then
    local last = redis.call('XREVRANGE', stream, '(' .. oldest, '-', 'COUNT', 1)[1]
    redis.call('XTRIM', stream, 'MINID', oldest)
    log.floor = last[1]
    look_at_first()
  end
end

local function trim()
  trim_to(max_events)
  trim_bytes(max_bytes)
  trim_old()
end

local function is_kept(position)
  return log.first and not is_before(position, log.first) and not is_before(log.head, position)
end

local function forget_id(id, position)
  if redis.call('HGET', ids, id) == position then redis.call('HDEL', ids, id) end
end

-- If the key has another type, it is deleted. Its ids are found by `forget_unqueued`.
local function drop_damaged_queue()
  local found = redis.call('TYPE', queue).ok
  if found ~= 'none' and found ~= 'list' then redis.call('DEL', queue) end
end

local function enqueue(item)
  drop_damaged_queue()
  redis.call('RPUSH', queue, item)
end

-- Remove the custom ids of trimmed events, a bounded number at a time. An id that was published
-- again after its event was trimmed is in the queue twice, and only the newer position is its own.
local function forget(most)
  drop_damaged_queue()
  for _ = 1, most do
    local item = redis.call('LINDEX', queue, 0)
    if not item then break end
    local position, id = string.match(item, '^(%d+%-%d+) (.*)$')
    if position and is_kept(position) then return end
    redis.call('LPOP', queue)
    if position then forget_id(id, position) end
  end
end

-- If the queue was lost, ids remain that it does not name. Look for them, some at a time.
local function forget_unqueued()
  if redis.call('HLEN', ids) - 3 <= redis.call('LLEN', queue) then return end
  local cursor = redis.call('HGET', ids, '#sweep') or '0'
  local found = redis.call('HSCAN', ids, string.match(cursor, '^%d+$') or '0', 'COUNT', 100)
  for i = 1, #found[2], 2 do
    local id, position = found[2][i], found[2][i + 1]
    if string.sub(id, 1, 1) ~= '#' then
      local is_position = string.match(position, '^%d+%-%d+$')
      if not (is_position and is_kept(position)) then redis.call('HDEL', ids, id) end
    end
  end
  redis.call('HSET', ids, '#sweep', found[1])
end

-- An error here must not hide that the events are in the event log.
local function tidy(most)
  for _, step in ipairs({trim, function() forget(most) end, forget_unqueued, save}) do
    local done, problem = pcall(step)
    if not done then
      redis.log(redis.LOG_WARNING, 'tidings: ' .. tostring(problem.err or problem))
    end
  end
end

-- Return the text and the position of the event with a custom id.
local function find(id)
  local position = redis.call('HGET', ids, id)
  local entry = position and log.head and entry_at(position)
  if entry then return entry[2][2], position end
end

-- Return about how many bytes of the server's memory an event takes.
local function size_of(id, text)
  return #text + 64 + (id ~= '' and 2 * #id + 160 or 0)
end

local function add(id, text)
  log.total = log.total + size_of(id, text)
  if log.total >= max_total then log.total, log.first_total = 0, 0 end
  local total = number(log.total)
  local position = redis.call('XADD', stream, '*', 'draft', text, 'total', total)
  if not log.first then log.first, log.first_total = position, log.total end
  log.head, log.length = position, log.length + 1
  return position
end

local verbs = {}

-- ARGV from 5: a custom id or '', and a draft, for each draft. All are checked before the first
-- write, and Redis refuses for lack of memory at the first write or not at all: so all drafts are
-- appended, or none. Returns their positions, or false for a conflict of a custom id.
function verbs.append()
  local texts, positions, answer = {}, {}, {}
  load()
  for i = 5, #ARGV, 2 do
    local id, text = ARGV[i], ARGV[i + 1]
    if id ~= '' then
      if not texts[id] then texts[id], positions[id] = find(id) end
      if (texts[id] or text) ~= text then return false end
      texts[id] = text
    end
  end
  if log.missing then create() end
  for i = 5, #ARGV, 2 do
    local id = ARGV[i]
    local position = positions[id]
    if not position then
      position = add(id, ARGV[i + 1])
      if id ~= '' then
        positions[id] = position
        redis.call('HSET', ids, id, position)
        enqueue(position .. ' ' .. id)
      end
    end
    answer[#answer + 1] = position
  end
  tidy(#ARGV)
  return answer
end

-- Return '<position> <draft>' for each entry that a command finds from a position to an edge. They
-- are read one at a time until their size is known: the server serves nobody else meanwhile.
local function page(command, from, edge, limit, bytes)
  local lines, size, together = {}, 0, 1
  limit = math.min(limit, max_lines)
  while #lines < limit and size < bytes do
    -- Beyond its ends, XRANGE may refuse, and XREVRANGE would walk through the whole stream.
    if edge == '+' and not is_before(from, log.head) then break end
    if edge == '-' and not (log.first and is_before(log.first, from)) then break end
    local count = math.min(together, limit - #lines)
    local entries = redis.call(command, stream, '(' .. from, edge, 'COUNT', count)
    for _, entry in ipairs(entries) do
      local text = entry[2][1] == 'draft' and entry[2][2] or ''
      if string.find(text, '\n', 1, true) then text = '' end
      from = entry[1]
      lines[#lines + 1] = from .. ' ' .. text
      size = size + #lines[#lines] + 1
      if size >= bytes then return lines end
    end
    if #entries < count then break end
    local fitting = math.floor((bytes - size) * #lines / size)
    together = math.max(1, math.min(2 * together, max_count, fitting))
  end
  return lines
end

-- Trim when nothing is published, too, so that old events expire. The hub leaves a master that became
-- a replica; a server that takes no writes for another reason, such as a full disk, can still be read.
local function maintain()
  load()
  if log.missing then create() end
  local done, problem = pcall(trim)
  if not done and string.find(problem.err or problem, 'READONLY', 1, true) then
    error({err = 'READONLY this is a replica'})
  end
  if done then
    pcall(forget, 100)
    pcall(forget_unqueued)
    pcall(save)
  end
end

-- Called when the server's memory is full. Drops an eighth of the event log, but keeps a quarter of
-- what it may have: other programs may have filled the memory. Returns how many events were dropped.
function verbs.make_room()
  local length = redis.call('XLEN', stream)
  maintain()
  local kept = log.total - log.first_total
  if log.length == length and (log.length > max_events / 4 or kept > max_bytes / 4) then
    trim_to(math.floor(log.length * 7 / 8))
    trim_bytes(kept * 7 / 8)
    tidy(log.length)
  end
  return length - log.length
end

-- ARGV from 5: the arguments of `page`, and 'check' to look for the position. Returns the floor or
-- false, the first position or false, the head, whether the stream has the position, the lines, and
-- the number of entries.
function verbs.read()
  maintain()
  local position = ARGV[6]
  local lines = page(ARGV[5], position, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
  local known = position == log.head or ARGV[10] == 'check' and entry_at(position)
  return {
    log.floor, log.first or false, log.head, known and 1 or 0, table.concat(lines, '\n'), log.length,
  }
end

-- ARGV 5: a custom id. Returns its position, or false.
function verbs.position_of()
  load()
  local _, position = find(ARGV[5])
  return position or false
end

return verbs[ARGV[1]]()
