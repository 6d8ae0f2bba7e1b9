-- How events are appended. Part of log.lua. It comes before what other verbs need, and ends the script.

-- Return a draft, and after how many milliseconds it expires if it does: it begins with that then.
local function parts_of(argument)
  if string.byte(argument, 1) == 91 then return argument end
  local ttl, text = string.match(argument, '^(%d+) (.*)$')
  return text or argument, ttl
end

-- Append an event, and index it if all before it are. Its size is about the bytes of the server's
-- memory that it takes. What the index takes is known a moment later, and counts with the next event.
local function add(id, argument, topics_left)
  local text, ttl = parts_of(argument)
  log.total = log.total + #text + 64 + (id ~= '' and 2 * #id + 160 or 0)
  if log.total >= max_total then log.total, log.first_total = 1, 0 end
  local is_next = topics_left > 0 and is_whole()
  -- The server writes a number of this size exactly, and faster than string.format.
  local position = ttl and
    redis.call('XADD', stream, '*', 'draft', text, 'total', log.total, 'ttl', ttl) or
    redis.call('XADD', stream, '*', 'draft', text, 'total', log.total)
  if not log.first then log.first, log.first_total = position, log.total end
  log.head, log.length = position, log.length + 1
  local names, is_private = topics_of(text)
  if id ~= '' then own_ids().store(id, names[1] or '', position) end
  if is_end(text) then log.total = log.total + topic_ends().store(position, names, is_private) end
  if ttl then log.total = log.total + expirations().store(position, ttl) end
  local bytes = is_next and guard(add_to_index, position, names, is_private)
  log.total = log.total + (bytes or #names * (position_bytes + topic_bytes))
  return position, topics_left - #names
end

-- ARGV from 5: an own id or '', and a draft, for each draft. All are checked before the first
-- write, and Redis refuses for lack of memory at the first write or not at all: so all drafts are
-- appended, or none. Returns their positions, false for a conflict of an own id, or 0 if one names an
-- ended topic.
local function append()
  local texts, positions, keys, answer, topics_left = {}, {}, {}, {}, step_topics
  local ended -- by these drafts
  load()
  if log.head == last_position then error({err = 'LASTID ' .. stream}) end
  for i = 5, #ARGV, 2 do
    local id, text, is_new = ARGV[i], parts_of(ARGV[i + 1]), true
    if id ~= '' then
      local topic = topics_of(text)[1] or ''
      local key = id .. '\n' .. topic
      if not texts[key] then texts[key], positions[key] = own_ids().find(id, topic, text) end
      if (texts[key] or text) ~= text then return false end
      texts[key], keys[i], is_new = text, key, not texts[key]
    end
    if is_new and (log.ends or ended or string.byte(text, 2) == 123) then
      local names = topics_of(text)
      if topic_ends().is_any_ended(names) then return 0 end
      for _, name in ipairs(names) do
        if ended and ended[name] then return 0 end
      end
      if is_end(text) then
        ended = ended or {}
        for _, name in ipairs(names) do ended[name] = true end
      end
    end
  end
  if log.missing then streams().create() end
  for i = 5, #ARGV, 2 do
    local key = keys[i]
    local position = key and positions[key]
    if not position then position, topics_left = add(ARGV[i], ARGV[i + 1], topics_left) end
    if key then positions[key] = position end
    answer[#answer + 1] = position
  end
  local problem = tidy(#ARGV) -- it must not hide that the events were appended
  if problem then redis.log(redis.LOG_WARNING, 'tidings: ' .. problem) end
  return answer
end

if ARGV[1] == 'append' then return append() end
