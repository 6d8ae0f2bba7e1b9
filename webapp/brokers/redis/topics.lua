-- Reads of the index by topic: positions of events, and the directory. With removals.lua a program of its
-- own: publishing need not compile it. KEYS: as of log.lua. ARGV: as of log.lua; most verbs answer with false while the
-- index is not whole, or a removal goes on.
--
-- Bounds: the hub asks for a bounded number of topics and positions in each call.

local lease_ms = 1500 -- of the process that builds the index, or continues a removal
local count_from, text_at = index_parts().count_from, own_ids().text_at
local max_examined = 256 -- events with one own id, in one call
local names_at_once = 100 -- of the directory, in one command
local max_compared = 262144 -- bytes of names, compared in one call, once for each glob: some milliseconds

local function is_readable() return is_whole() and not is_removing() and not is_due() end

local function state(...)
  return {log.floor, log.first or false, log.head, ...}
end

-- Return how many positions to take of each list, so that they are about `limit` in all.
local function share_of(found, limit)
  local share, full = limit / #found, 0
  for _ = 1, 4 do
    local taken, others = 0, 0
    for _, list in ipairs(found) do
      if list.count <= share then taken = taken + list.count else others = others + 1 end
    end
    if others == 0 or taken == full then break end
    full, share = taken, (limit - taken) / others
  end
  return share
end

-- Return positions of some lists, and the position up to which, or from which on, these are all; false:
-- there are no more. Where a list ends early, what follows in the others is of no use. So more are read
-- than are asked for.
local function take(found, limit, is_backwards)
  local share = #found > 0 and math.ceil(share_of(found, limit))
  local edge, all = false, {}
  for _, list in ipairs(found) do
    local count = math.min(list.count, share + math.ceil(3 * math.sqrt(share)))
    local from = is_backwards and -list.from - count + 1 or -list.from
    list.positions = redis.call('LRANGE', list.key, from, from + count - 1)
    local last = count < list.count and list.positions[is_backwards and 1 or count]
    if last and (not edge or is_before(last, edge) ~= is_backwards) then edge = last end
  end
  for _, list in ipairs(found) do
    for _, position in ipairs(list.positions) do
      local is_beyond = edge and position ~= edge and is_before(edge, position) ~= is_backwards
      if not is_beyond then all[#all + 1] = position end
    end
  end
  return edge, table.concat(all, ' ')
end

local function lists_from(argument)
  local keys = {}
  for i = argument, #ARGV do
    keys[#keys + 1], keys[#keys + 2] = public .. ARGV[i], private .. ARGV[i]
  end
  return keys
end

local verbs = {}

-- ARGV from 5: a position, how many positions to return, topics. Returns the state, the position up to
-- which the index is whole, and what `take` returns of the next positions.
function verbs.after()
  maintain()
  local position, found = ARGV[5], {}
  local is_known = index.upto and (is_whole() or is_before(position, index.upto))
  if not is_known or is_removing() then return false end
  local is_old = log.first and is_before(position, log.first)
  for _, key in ipairs(lists_from(7)) do
    local count = count_from(key, is_old and log.first or position, is_old)
    if count > 0 then found[#found + 1] = {key = key, count = count, from = count} end
  end
  return state(index.upto, take(found, tonumber(ARGV[6]), false))
end

-- The same, of the newest positions before one. They may begin with some that the stream has not.
function verbs.before()
  maintain()
  if not is_readable() then return false end
  local found = {}
  for _, key in ipairs(lists_from(7)) do
    local length = redis.call('LLEN', key)
    local newer = length > 0 and count_from(key, ARGV[5], true) or 0
    if length > newer then
      found[#found + 1] = {key = key, count = length - newer, from = newer + 1}
    end
  end
  return state(index.upto, take(found, tonumber(ARGV[6]), true))
end

-- Return the newest position of a list that the stream has and that lies before one.
local function newest_before(key, position)
  local found = redis.call('LINDEX', key, -1)
  if found and not is_before(found, position) then
    found = redis.call('LINDEX', key, -1 - count_from(key, position, true))
  end
  return found and is_kept(found) and found
end

-- ARGV from 5: a position, 'public' or 'all', topics. Returns the newest position of each topic, or '-'.
function verbs.newest()
  maintain()
  if not is_readable() then return false end
  local answer = {}
  for i = 7, #ARGV do
    local found = newest_before(public .. ARGV[i], ARGV[5])
    local other = ARGV[6] == 'all' and newest_before(private .. ARGV[i], ARGV[5])
    if other and (not found or is_before(found, other)) then found = other end
    answer[#answer + 1] = found or '-'
  end
  return table.concat(answer, ' ')
end

-- ARGV from 5: topics. Returns the position of the event that ended each topic, and 1 if it is private or
-- 0; or '- 0'.
function verbs.ends()
  maintain()
  local answer = {}
  for i = 5, #ARGV do
    local position, is_private = nil, nil
    if log.ends then position, is_private = topic_ends().find(ARGV[i]) end
    answer[#answer + 1] = (position or '-') .. ' ' .. (is_private or '0')
  end
  return table.concat(answer, ' ')
end

-- Returns the position of the newest event that ended a topic, or false.
function verbs.newest_end()
  maintain()
  return log.ends
end

-- ARGV from 5: how many bytes, positions. Returns the state, how many of the positions were looked at,
-- and a line for each that the stream has, or that is left of it, in parts; and the removals that go on.
function verbs.entries()
  maintain()
  local lines, seen = new_lines(), 0
  for i = 6, #ARGV do
    local entry = entry_at(ARGV[i])
    local remnant = not entry and redis.call('HGET', remnants, ARGV[i])
    seen = seen + 1
    if entry then lines.add_entry(entry) elseif remnant then lines.add(ARGV[i], remnant) end
    if lines.size >= tonumber(ARGV[5]) then break end
  end
  return state(seen, lines.all(), is_removing() and log.removing, number(clock()))
end

local function count_kept(key)
  if index.rounds == 0 then return redis.call('LLEN', key) end
  return log.first and count_from(key, log.first, true) or 0
end

local function directory_line(name)
  local parts = {}
  for _, key in ipairs({public .. name, private .. name}) do
    local newest = redis.call('LINDEX', key, -1)
    newest = newest and is_kept(newest) and newest
    parts[#parts + 1], parts[#parts + 2] = newest or '-', newest and count_kept(key) or 0
  end
  return table.concat(parts, ' ') .. ' ' .. name
end

-- Return whether globs may match a name. Each is a head, a middle and a tail. Text is compared octet by
-- octet: the server's locale is of no account.
local function may_match(name, globs)
  for i = 1, #globs, 3 do
    local head, middle, tail = globs[i], globs[i + 1], globs[i + 2]
    if string.sub(name, 1, #head) == head and string.sub(name, #name - #tail + 1) == tail and
      string.find(name, middle, 1, true) then
      return true
    end
  end
  return #globs == 0
end

-- ARGV from 5: how names begin, from where on ('[' or '(' and a name), how many to look at, how many to
-- return, globs. Returns the last name that was looked at if there may be more, and a line for each
-- topic: the newest public position and how many there are, the same of private ones, and the name.
-- The hub compares names: Lua would use the server's locale.
function verbs.directory()
  maintain()
  if not is_readable() then return false end
  local to, lines, globs = ARGV[5] == '' and '+' or '(' .. ARGV[5] .. '\255', {}, {}
  for i = 9, #ARGV do globs[#globs + 1] = ARGV[i] end
  local left, most, from, last, compared = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[6], false, 0
  while left > 0 do
    local limit = math.min(left, names_at_once)
    local names = redis.call('ZRANGEBYLEX', directory, from, to, 'LIMIT', 0, limit)
    for _, name in ipairs(names) do
      last, left, compared = name, left - 1, compared + #name * #globs / 3
      if may_match(name, globs) then lines[#lines + 1] = directory_line(name) end
      if #lines == most or compared > max_compared then left = 0 end
      if left == 0 then break end
    end
    if #names < limit and left > 0 then
      last = false
      break
    end
    from = '(' .. (last or '')
  end
  return {last, table.concat(lines, '\n')}
end

-- ARGV from 5: an own id, a position or '', topics or none. Returns the position up to which more must
-- be looked for or false, and the positions after it of events with the id that have one of the topics.
function verbs.positions_of()
  maintain()
  local id, after, wanted = ARGV[5], ARGV[6], {}
  for i = 7, #ARGV do wanted[ARGV[i]] = true end
  local list, oldest = ids .. ':' .. id, redis.call('HGET', ids, id)
  local count = after == '' and redis.call('LLEN', list) or count_from(list, after)
  local positions = count > 0 and
    redis.call('LRANGE', list, -count, max_examined - 1 - count) or {}
  local is_listed = not oldest or after ~= '' and not is_before(after, oldest)
  for i, position in ipairs(positions) do
    if is_listed or not is_before(position, oldest) then
      if not is_listed and position ~= oldest then table.insert(positions, i, oldest) end
      is_listed = true
      break
    end
  end
  if not is_listed and #positions >= count then positions[#positions + 1] = oldest end
  local found, size, seen = {}, 0, 0
  for _, position in ipairs(positions) do
    local text = is_taken(position) and text_at(position)
    local is_wanted = text and #ARGV < 7
    for _, name in ipairs(text and topics_of(text) or {}) do is_wanted = is_wanted or wanted[name] end
    if is_wanted then found[#found + 1] = position end
    seen, size = seen + 1, size + #(text or '')
    if size >= step_bytes then break end
  end
  local is_more = seen < #positions or #positions < count
  return {is_more and positions[seen] or false, table.concat(found, ' ')}
end
