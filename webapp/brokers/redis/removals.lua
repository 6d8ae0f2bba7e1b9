-- Removed events. Part of topics.lua; what the other scripts need of it is in stream.lua and own_ids.lua.
--
-- A removal is an entry of the stream, ["remove", TOPIC, FIRST, LAST], which is written first. The field
-- #removing has a line for each removal that goes on, or whose process has not asked for the result:
--   '<its position> <from> <last> <is_head> <count> <topic>'
-- What is left to be removed lies between <from> and <last>; <from> is '-' at the end. Each reader leaves
-- out what these lines name, and the index does not answer: so all see the whole removal at once.
--
-- The positions of removed events are held, until the floor passes them: in a sorted set, and in a hash
-- by position what is left of an event that had an own id.
--
-- Bounds: a step looks at some events, and compares a bounded number of positions in the index.

local step_events, step_compared, max_removing = 128, 200000, 64
-- A follower of 0.1.0 that waits at the newest event must find it there until it has read on.
local head_kept_ms = 500

local function entries_of(text)
  local found = {}
  for line in string.gmatch(text or '', '[^\n]+') do
    local position, from, last, is_head, count, topic =
      string.match(line, '^(%d+%-%d+) (%S+) (%d+%-%d+) ([01]) (%d+) (.*)$')
    if position then
      found[#found + 1] = {
        position = position, from = from, last = last, is_head = is_head == '1',
        count = tonumber(count), topic = topic,
      }
    end
  end
  return found
end

local function save_removals(found)
  local lines = {}
  for i, it in ipairs(found) do
    local parts = {it.position, it.from, it.last, it.is_head and 1 or 0, number(it.count), it.topic}
    lines[i] = table.concat(parts, ' ')
  end
  log.removing = #lines > 0 and table.concat(lines, '\n')
  if log.removing then
    redis.call('HSET', ids, '#removing', log.removing)
  else
    redis.call('HDEL', ids, '#removing')
  end
end

local remove_event = taking_out().event

-- Return what `take` returns of some positions from one on that have a topic.
local function positions_from(topic, from)
  local found, is_old = {}, log.first and is_before(from, log.first)
  for _, key in ipairs({public .. topic, private .. topic}) do
    local count = count_from(key, is_old and log.first or from, true)
    if count > 0 then found[#found + 1] = {key = key, count = count, from = count} end
  end
  local edge, text = take(found, step_events, false)
  local positions = {}
  for position in string.gmatch(text, '%S+') do positions[#positions + 1] = position end
  table.sort(positions, is_before)
  return edge, positions
end

-- Do a step of a removal. Returns false if it has to wait.
local function remove_some(removal)
  local edge, positions = positions_from(removal.topic, removal.from)
  local compared, bytes, now = 0, 0, clock()
  for _, position in ipairs(positions) do
    if is_before(removal.last, position) then break end
    removal.from = position
    if compared > step_compared or bytes > step_bytes then return true end
    local text = text_at(position)
    local names, is_private = topics_of(text or '')
    if names[1] == removal.topic then
      local is_kept_for_others = removal.is_head and position == removal.last and
        now - ms_of(removal.position) < head_kept_ms
      if is_kept_for_others then return false end
      compared = compared + remove_event(position, text, names, is_private)
      bytes, removal.count = bytes + #text, removal.count + 1
    end
  end
  removal.from = edge and not is_before(removal.last, edge) and edge or '-'
  return true
end

-- Return the position of an event of a topic between two positions; of many that have the topic as an
-- alternate, some are looked at.
local function oldest_of(removal)
  local edge, positions = positions_from(removal.topic, removal.from)
  for _, position in ipairs(positions) do
    if is_before(removal.last, position) then return end
    if topics_of(text_at(position) or '')[1] == removal.topic then return position end
  end
  return edge or nil
end

local function append_entry(removal)
  local text = cjson.encode({'remove', removal.topic, removal.from, removal.last})
  log.total = log.total + #text + 64
  local position = redis.call('XADD', stream, '*', 'draft', text, 'total', log.total)
  if not log.first then log.first, log.first_total = position, log.total end
  log.head, log.length, index.upto = position, log.length + 1, position
  return position
end

-- ARGV from 5: a topic, the first and the last position. Returns the position of the removal's entry, or
-- '' if there is nothing to remove; false if the index is not
-- whole, and '!' if too many removals go on.
function verbs.begin_removal()
  maintain()
  if not is_whole() then return false end
  local found = entries_of(log.removing)
  if #found >= max_removing then return '!' end
  local topic, first, last = ARGV[5], ARGV[6], ARGV[7]
  if is_before(log.head, last) then last = log.head end
  local removal = {topic = topic, from = first, last = last, is_head = last == log.head, count = 0}
  for _, it in ipairs(found) do
    if it.topic == topic and it.from ~= '-' and not is_before(it.last, last) and
      not is_before(first, it.from) then return '' end
  end
  local oldest = oldest_of(removal)
  if not oldest then return '' end
  removal.position = append_entry(removal)
  removal.from = oldest
  found[#found + 1] = removal
  remove_some(removal)
  save_removals(found)
  save()
  return removal.position
end

-- Do a step of a removal; '': of any. Returns the removal, and whether it did something; nil: there is none.
local function continue_removal(position)
  local found = entries_of(log.removing)
  for i, it in ipairs(found) do
    if it.position == position or position == '' and it.from ~= '-' then
      local has_moved = it.from ~= '-' and is_whole() and remove_some(it)
      if it.from == '-' and position ~= '' then table.remove(found, i) end
      save_removals(found)
      save()
      return it, has_moved
    end
  end
end

-- ARGV from 5: the position of a removal's entry. Returns how many events it has removed, or -1: there is
-- more to do, or -2: it has to wait.
function verbs.removal_step()
  maintain()
  local removal, has_moved = continue_removal(ARGV[5])
  if not removal then return 0 end
  return removal.from == '-' and removal.count or has_moved and -1 or -2
end

-- ARGV 5: a process. Index some events, take out what has expired, and continue a removal. Returns
-- 0 if nothing is left to do, 1 if there is more, or 2 if another process does it.
function verbs.build()
  local now = clock()
  local holder, ends = string.match(redis.call('HGET', ids, '#indexer') or '', '^(%S+) (%d+)$')
  local left = holder and holder ~= ARGV[5] and ends - now or 0
  if left > 0 and left <= lease_ms then return 2 end
  maintain(step_topics)
  if is_removing() then
    continue_removal('')
  elseif index.rounds == 0 and is_whole() and not is_due() then
    redis.call('HDEL', ids, '#indexer')
    return 0
  end
  redis.call('HSET', ids, '#indexer', ARGV[5] .. ' ' .. number(now + lease_ms))
  return 1
end

return verbs[ARGV[1]]()
