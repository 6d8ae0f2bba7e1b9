-- Own ids of events, which are unique for each canonical topic. Part of log.lua and topics.lua.
--
-- The hash of own ids has two kinds of fields:
--   ID            the position of the oldest event with this id; hubs of 0.1.0 know no others
--   ID \n TOPIC   that of another event with it, whose canonical topic is TOPIC
-- If several events have an id, the list ...:ids:ID has the positions of all. The queue has
-- '<position> <id>' of all events with an own id, the oldest first.

local function is_kept(position)
  return log.first and not is_before(position, log.first) and not is_before(log.head, position)
end

-- The ids of removed events stay taken until the floor passes them.
local function is_taken(position)
  return is_kept(position) or redis.call('ZSCORE', held, position)
end

local own_ids = lazily(function()
  -- Return the text of an event, or of what is left of it.
  local function text_at(position)
    local entry = is_position(position) and entry_at(position)
    if not entry then return is_position(position) and redis.call('HGET', remnants, position) end
    return entry[2][1] == 'draft' and entry[2][2]
  end

  -- Return the text and the position of the event with an id and a canonical topic. Of one that was
  -- removed, the text is `new` if it was that.
  local function find(id, topic, new)
    if not log.head then return end
    for _, position in ipairs(redis.call('HMGET', ids, id, id .. '\n' .. topic)) do
      local text = position and text_at(position)
      if text and topics_of(text)[1] == topic then
        local digest = string.match(text, '%],"removed","(%x+)",%a+,null%]$')
        return digest and digest == redis.sha1hex(new) and new or text, position
      end
    end
  end

  local function store_id(id, topic, position)
    redis.call('RPUSH', queue, position .. ' ' .. id)
    if redis.call('HSETNX', ids, id, position) == 1 then return end
    local list, other = ids .. ':' .. id, redis.call('HGET', ids, id)
    local is_other_kept = text_at(other)
    redis.call('HSET', ids, is_other_kept and id .. '\n' .. topic or id, position)
    local has_list = delete_unless(list, 'list') or redis.call('EXISTS', list) == 1
    if is_other_kept and not has_list then redis.call('RPUSH', list, other) end
    if is_other_kept or has_list then redis.call('RPUSH', list, position) end
  end

  -- The oldest event with an id is trimmed: the next one takes its field.
  local function promote(id)
    local list = ids .. ':' .. id
    for _ = 1, 100 do
      local position = redis.call('LPOP', list)
      if not position then return end
      local text = is_taken(position) and text_at(position)
      if text then
        redis.call('HDEL', ids, id .. '\n' .. (topics_of(text)[1] or ''))
        redis.call('HSET', ids, id, position)
        redis.call('LPUSHX', list, position) -- if there are others
        return
      end
    end
  end

  -- Remove the ids of trimmed events, a bounded number at a time. An id that was published again after
  -- its event was trimmed is in the queue twice, and only the newer position is its own.
  local function forget(most)
    for _ = 1, most do
      local item = redis.call('LINDEX', queue, 0)
      if not item then break end
      local position, id = string.match(item, '^(%d+%-%d+) (.*)$')
      if position and is_taken(position) then return end
      redis.call('LPOP', queue)
      local stored_position = position and redis.call('HGET', ids, id)
      if stored_position == position then redis.call('HDEL', ids, id) end
      if position and (not stored_position or stored_position == position) then promote(id) end
    end
  end

  -- If the queue was lost, ids remain that it does not name. Look for them, some at a time.
  local function forget_unqueued()
    local cursor = string.match(redis.call('HGET', ids, '#sweep') or '', '^%d+$')
    if not cursor or #cursor > 15 then cursor = '0' end
    local found = redis.call('HSCAN', ids, cursor, 'COUNT', 100)
    for i = 1, #found[2], 2 do
      local id, position = found[2][i], found[2][i + 1]
      if string.sub(id, 1, 1) ~= '#' and not (is_position(position) and is_taken(position)) then
        redis.call('HDEL', ids, id)
        if not string.find(id, '\n', 1, true) then promote(id) end
      end
    end
    redis.call('HSET', ids, '#sweep', found[1])
  end

  return {
    find = find, store = store_id, forget = forget, forget_unqueued = forget_unqueued,
    text_at = text_at,
  }
end)

local function forget(most)
  if log.ends then topic_ends().forget(100 + 2 * most) end
  local item = redis.call('LINDEX', queue, 0)
  local position = item and string.match(item, '^(%d+%-%d+) ')
  if item and not (position and is_kept(position)) then own_ids().forget(most) end
  -- Some fields are not of ids.
  if redis.call('HLEN', ids) - 16 > redis.call('LLEN', queue) then own_ids().forget_unqueued() end
end

-- Trim, forget some own ids, and index some events. Returns the first error.
local function tidy(most)
  local first_problem
  for _, step in ipairs({trim, forget, tend_index, expire_due, save}) do
    local done, problem = pcall(step, most)
    if not done then
      problem = tostring(type(problem) == 'table' and problem.err or problem)
      first_problem = first_problem or problem
    end
  end
  return first_problem
end

-- Trim when nothing is published, too, so that old events expire. The hub leaves a master that became
-- a replica; a server that takes no writes for another reason, such as a full disk, can still be read.
local function maintain(most)
  load()
  if log.missing then streams().create() end
  local answer = redis.pcall('HDEL', ids, '#') -- to notice that it takes no writes
  local problem = type(answer) == 'table' and answer.err or tidy(most or 100)
  if problem and string.find(problem, 'READONLY', 1, true) then
    error({err = 'READONLY this is a replica'})
  end
end
