-- The event log. What must be atomic is one call, and a server has all of this script or nothing.
-- KEYS: the stream; a hash from custom id to position; a queue of '<position> <custom id>', oldest
-- first; what the followers say of themselves.
-- ARGV: a verb, how many events to keep, how long (ms), how many bytes, and what the verb needs.
--
-- Bounds: `append` does a bounded number of commands for each draft. `read` copies max_lines entries
-- and the bytes that it is asked for, or one entry; other calls copy a few entries.

local max_lines, max_count = 2048, 32 -- entries of one page, and of one command

local function is_kept(position)
  return log.first and not is_before(position, log.first) and not is_before(log.head, position)
end

-- Remove the custom ids of trimmed events, a bounded number at a time. An id that was published
-- again after its event was trimmed is in the queue twice, and only the newer position is its own.
local function forget(most)
  for _ = 1, most do
    local item = redis.call('LINDEX', queue, 0)
    if not item then break end
    local position, id = string.match(item, '^(%d+%-%d+) (.*)$')
    if position and is_kept(position) then return end
    redis.call('LPOP', queue)
    if position and redis.call('HGET', ids, id) == position then redis.call('HDEL', ids, id) end
  end
end

-- If the queue was lost, ids remain that it does not name. Look for them, some at a time.
local function forget_unqueued()
  if redis.call('HLEN', ids) - 6 <= redis.call('LLEN', queue) then return end
  local cursor = string.match(redis.call('HGET', ids, '#sweep') or '', '^%d+$')
  if not cursor or #cursor > 15 then cursor = '0' end
  local found = redis.call('HSCAN', ids, cursor, 'COUNT', 100)
  for i = 1, #found[2], 2 do
    local id, position = found[2][i], found[2][i + 1]
    if string.sub(id, 1, 1) ~= '#' and not (is_position(position) and is_kept(position)) then
      redis.call('HDEL', ids, id)
    end
  end
  redis.call('HSET', ids, '#sweep', found[1])
end

-- Trim, and forget some custom ids. Returns the first error.
local function tidy(most)
  local first_problem
  for _, step in ipairs({trim, function() forget(most) end, forget_unqueued, save}) do
    local done, problem = pcall(step)
    if not done then first_problem = first_problem or tostring(problem.err or problem) end
  end
  return first_problem
end

-- Return the text and the position of the event with a custom id.
local function find(id)
  local position = redis.call('HGET', ids, id)
  local entry = position and log.head and entry_at(position)
  if entry then return entry[2][2], position end
end

-- Its size is about the bytes of the server's memory that it takes.
local function add(id, text)
  log.total = log.total + #text + 64 + (id ~= '' and 2 * #id + 160 or 0)
  if log.total >= max_total then log.total, log.first_total = 1, 0 end
  -- The server writes a number of this size exactly, and faster than string.format.
  local position = redis.call('XADD', stream, '*', 'draft', text, 'total', log.total)
  if not log.first then log.first, log.first_total = position, log.total end
  log.head, log.length = position, log.length + 1
  if id ~= '' then
    redis.call('HSET', ids, id, position)
    redis.call('RPUSH', queue, position .. ' ' .. id)
  end
  return position
end

local verbs = {}

-- ARGV from 5: a custom id or '', and a draft, for each draft. All are checked before the first
-- write, and Redis refuses for lack of memory at the first write or not at all: so all drafts are
-- appended, or none. Returns their positions, or false for a conflict of a custom id.
function verbs.append()
  local texts, positions, answer = {}, {}, {}
  load()
  if log.head == last_position then error({err = 'LASTID ' .. stream}) end
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
    local position = positions[id] or add(id, ARGV[i + 1])
    if id ~= '' then positions[id] = position end
    answer[#answer + 1] = position
  end
  local problem = tidy(#ARGV) -- it must not hide that the events were appended
  if problem then redis.log(redis.LOG_WARNING, 'tidings: ' .. problem) end
  return answer
end

-- Return '<position> <draft>' for each entry that a command finds from a position to an edge. They
-- are read one at a time until their size is known: the server serves nobody else meanwhile.
local function page(command, from, edge, limit, bytes)
  local lines, size, together, last = {}, 0, 1, nil
  limit = math.min(limit, max_lines)
  while #lines < limit and size < bytes do
    -- Beyond its ends, XRANGE may refuse, and XREVRANGE would walk through the whole stream.
    if edge == '+' and not is_before(from, log.head) then break end
    if edge == '-' and not (log.first and is_before(log.first, from)) then break end
    local count = math.min(together, limit - #lines)
    local entries = redis.call(command, stream, '(' .. from, edge, 'COUNT', count)
    for _, entry in ipairs(entries) do
      if is_too_large(entry, max_foreign_bytes) and delete(entry) then return lines, last end
      local text = entry[2][1] == 'draft' and entry[2][2] or ''
      if string.find(text, '\n', 1, true) then text = '' end
      from, last = entry[1], entry
      lines[#lines + 1] = from .. ' ' .. text
      size = size + #lines[#lines] + 1
      if size >= bytes then return lines, last end
    end
    if #entries < count then break end
    local fitting = math.floor((bytes - size) * #lines / size)
    together = math.max(1, math.min(2 * together, max_count, fitting))
  end
  return lines, last
end

-- Trim when nothing is published, too, so that old events expire. The hub leaves a master that became
-- a replica; a server that takes no writes for another reason, such as a full disk, can still be read.
local function maintain()
  load()
  if log.missing then create() end
  local problem = tidy(100)
  if problem and string.find(problem, 'READONLY', 1, true) then
    error({err = 'READONLY this is a replica'})
  end
end

-- Called when the server's memory is full. Drops an eighth of the event log, but keeps a quarter of
-- what it may have: other programs may have filled the memory. Returns how many events were dropped.
function verbs.make_room()
  local length = redis.call('XLEN', stream)
  maintain()
  local kept = bytes_kept()
  if log.length == length and (length > max_events / 4 or kept > max_bytes / 4) then
    trim_to(math.floor(length * 7 / 8))
    trim_bytes(kept * 7 / 8)
    tidy(length)
  end
  return length - log.length
end

-- ARGV from 5: the arguments of `page`, 'check' to look for the position, and what a follower has to
-- report if the lines have some bytes: its process, whether single events come to it, and how many
-- bytes. Returns the floor or false, the first position or false, the head, whether the stream has
-- the position, the lines, the number of entries, how many were deleted: then the lines may end early;
-- and how many bytes the slowest follower has yet to read, -1 without a report, and whether single
-- events come to another process.
function verbs.read()
  maintain()
  local position = ARGV[6]
  local lines, last = page(ARGV[5], position, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
  local known, count = position == log.head or ARGV[10] == 'check' and entry_at(position), deleted
  if count > 0 then
    deleted = 0
    look_at_first()
    pcall(save)
  end
  local unread, beside_singles = -1, 0
  local text = table.concat(lines, '\n')
  if ARGV[11] and #text >= tonumber(ARGV[13]) then
    local now, total = clock(), last and total_of(last) or position == log.head and log.total
    note_follower(ARGV[11], total, ARGV[12], now)
    unread, beside_singles = look_at_followers(ARGV[11], now)
  end
  return {
    log.floor, log.first or false, log.head, known and 1 or 0, text,
    log.length, count, number(unread), beside_singles,
  }
end

-- ARGV from 5: a process, for how long it gets the turn (ms), and how many bytes the followers may
-- have yet to read. See take_turn.
function verbs.take_turn()
  load()
  return take_turn(ARGV[5], ARGV[6], ARGV[7])
end

-- ARGV from 5: a process, and for how long nobody shall have the turn (ms).
function verbs.end_turn()
  end_turn(ARGV[5], ARGV[6])
end

-- ARGV 5: a custom id. Returns its position, or false.
function verbs.position_of()
  load()
  local _, position = find(ARGV[5])
  return position or false
end

return verbs[ARGV[1]]()
