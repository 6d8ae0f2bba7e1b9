-- The ended topics. Part of log.lua and topics.lua.
--   ...:ended   a hash from an ended topic to '<position> <1 or 0>': the event that ended it, and whether
--               that is private
--   ...:ends    a list of '<position> <topic>', the oldest first
-- The field #ends has the position of the newest end. While there is none, nothing is looked up.

topic_ends = lazily(function()
  local ended, queue_of_ends = directory .. ':ended', directory .. ':ends'

  -- Return the position of the event that ended a topic, and '1' if it is private; or nothing.
  local function find(name)
    local record = redis.call('HGET', ended, name) or ''
    local position, is_private = string.match(record, '^(%d+%-%d+) ([01])$')
    if position and is_kept(position) then return position, is_private end
  end

  -- Return whether any of some topics is ended. In another event log, another event may be there.
  local function is_any_ended(names)
    if not log.ends or not has_type(ended, 'hash') then return false end
    for _, name in ipairs(names) do
      local position = find(name)
      local text = position and own_ids().text_at(position)
      if text and is_end(text) then return true end
    end
    return false
  end

  -- Store that an event ends its topics. Returns about how many bytes of memory that takes.
  local function store(position, names, is_private)
    local record, bytes = position .. (is_private and ' 1' or ' 0'), 0
    delete_unless(ended, 'hash')
    delete_unless(queue_of_ends, 'list')
    for _, name in ipairs(names) do
      if redis.call('HGET', ended, name) ~= record then
        redis.call('HSET', ended, name, record)
        redis.call('RPUSH', queue_of_ends, position .. ' ' .. name)
      end
      bytes = bytes + 2 * #name + 200
    end
    if not log.ends or is_before(log.ends, position) then log.ends = position end
    return bytes
  end

  -- The event that ended some topics is removed: they are open again.
  local function reopen(position, names)
    for _, name in ipairs(names) do
      local record = redis.call('HGET', ended, name) or ''
      if string.match(record, '^%S+') == position then redis.call('HDEL', ended, name) end
    end
    if redis.call('EXISTS', ended) == 1 then return end
    redis.call('DEL', queue_of_ends)
    log.ends = false
  end

  -- Forget the ends of trimmed events, a bounded number at a time.
  local function forget(most)
    if not is_kept(log.ends) then
      redis.call('DEL', ended, queue_of_ends)
      log.ends = false
      return
    end
    delete_unless(ended, 'hash')
    delete_unless(queue_of_ends, 'list')
    -- The server has evicted them: they are found again with the index, which is built again.
    if redis.call('EXISTS', ended) == 0 then index.upto = false end
    for _ = 1, most do
      local item = redis.call('LINDEX', queue_of_ends, 0)
      local position, name = string.match(item or '', '^(%d+%-%d+) (.*)$')
      if not item or position and is_kept(position) then return end
      redis.call('LPOP', queue_of_ends)
      local record = position and redis.call('HGET', ended, name) or ''
      if string.match(record, '^%S+') == position then redis.call('HDEL', ended, name) end
    end
  end

  return {find = find, is_any_ended = is_any_ended, store = store, reopen = reopen, forget = forget}
end)
