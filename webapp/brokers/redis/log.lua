-- The event log. What must be atomic is one call, and a server has all of this script or nothing.
-- KEYS: the stream; a hash from own id to position; a queue of '<position> <own id>', oldest
-- first; what the followers say of themselves.
-- ARGV: a verb, how many events to keep, how long (ms), how many bytes, and what the verb needs.
--
-- Bounds: `append` does a bounded number of commands for each draft. `read` copies max_lines entries
-- and the bytes that it is asked for, or one entry; other calls copy a few entries.

local max_lines = 2048 -- entries of one page

local verbs = {}

-- Return a line for each entry that a command finds from a position to an edge, and the last entry.
local function page(command, from, edge, limit, bytes)
  local lines, last = new_lines(), nil
  streams().walk(command, from, edge, math.min(limit, max_lines), bytes, function(entry)
    if is_too_large(entry, max_foreign_bytes) and streams().delete(entry) then return end
    last = entry
    return lines.add_entry(entry)
  end)
  return lines, last
end

-- Called when the server's memory is full. Drops an eighth of the event log, but keeps a quarter of
-- what it may have: other programs may have filled the memory. Returns how many events were dropped.
function verbs.make_room()
  local length = redis.call('XLEN', stream)
  maintain()
  local kept = trims().bytes_kept()
  if log.length == length and (length > max_events / 4 or kept > max_bytes / 4) then
    trims().to(math.floor(length * 7 / 8))
    trims().bytes(kept * 7 / 8)
    tidy(length)
  end
  return length - log.length
end

-- Return the floor or false, the first position or false, the head, how many entries there are, and
-- about how many bytes.
function verbs.usage()
  maintain()
  return {log.floor, log.first or false, log.head, log.length, number(trims().bytes_kept())}
end

-- ARGV from 5: the arguments of `page`, 'check' to look for the position, and what a follower has to
-- report if the lines have some bytes: its process, whether single events come to it, and how many
-- bytes. Returns the floor or false, the first position or false, the head, whether the stream has
-- the position, the lines in parts, the number of entries, how many were deleted: then the lines may end early;
-- how many bytes the slowest follower has yet to read, -1 without a report, and whether single
-- events come to another process; whether the index by topic is whole and has nothing
-- that has expired; and the removals that go on.
function verbs.read()
  maintain()
  local position = ARGV[6]
  local lines, last = page(ARGV[5], position, ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]))
  local known, count = position == log.head, deleted
  if ARGV[10] == 'check' then
    known = known or entry_at(position) or redis.call('ZSCORE', held, position)
  end
  if count > 0 then
    deleted = 0
    streams().look_at_first()
    pcall(save)
  end
  local unread, beside_singles = -1, 0
  if ARGV[11] and lines.size >= tonumber(ARGV[13]) then
    local is_at_head = (last and last[1] or position) == log.head
    local now, total = clock(), is_at_head and log.total or total_of(last)
    note_follower(ARGV[11], total, ARGV[12], now)
    unread, beside_singles = look_at_followers(ARGV[11], now)
  end
  return {
    log.floor, log.first or false, log.head, known and 1 or 0, lines.all(),
    log.length, count, number(unread), beside_singles,
    index.rounds == 0 and is_whole() and not is_removing() and not is_due() and 1 or 0,
    is_removing() and log.removing,
    number(clock()),
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

return verbs[ARGV[1]]()
