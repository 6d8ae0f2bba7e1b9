-- How an event leaves the stream and the index before it is trimmed. Part of log.lua and topics.lua.

local topic_compared = 200 -- a topic of an event takes as long as so many comparisons of positions

local taking_out = lazily(function()
  -- Return a position before another one, and not before the one that lies before that.
  local function before(position)
    local ms, seq = string.match(position, '^(%d+)%-(%d+)$')
    if seq ~= '0' then return ms .. '-0' end
    return number(ms - 1) .. '-9223372036854775808'
  end

  -- Remove a position from a list of the index. Returns about how many were compared.
  local function remove_from_list(key, position)
    if redis.call('LINDEX', key, 0) == position then
      redis.call('LPOP', key)
      return 1
    elseif redis.call('LINDEX', key, -1) == position then
      redis.call('RPOP', key)
      return 1
    end
    local middle = math.floor(redis.call('LLEN', key) / 2)
    local found = redis.call('LINDEX', key, middle)
    redis.call('LREM', key, found and is_before(found, position) and -1 or 1, position)
    return middle
  end

  -- Return what is left of an event that had an own id.
  local function remnant_of(text, names, is_private)
    local done, parts = pcall(cjson.decode, text)
    if not done or type(parts[4]) ~= 'string' then return end
    local digest = redis.sha1hex(text)
    return '[' .. cjson.encode(names) .. ',"removed","' .. digest .. '",' .. tostring(is_private) .. ',null]'
  end

  -- Remove an event from the index. Returns about how many positions were compared.
  local function unindex(position, names, is_private)
    local compared = 0
    for _, name in ipairs(names) do
      compared = compared + topic_compared + remove_from_list((is_private and private or public) .. name, position)
      if redis.call('EXISTS', public .. name, private .. name) == 0 then
        redis.call('ZREM', directory, name)
      end
    end
    return compared
  end

  -- Remove an event from the stream and the index. Returns about how many positions were compared.
  local function remove_event(position, text, names, is_private)
    local compared = unindex(position, names, is_private)
    redis.call('ZADD', held, ms_of(position), position)
    local remnant = remnant_of(text, names, is_private)
    if remnant then redis.call('HSET', remnants, position, remnant) end
    if is_end(text) then topic_ends().reopen(position, names) end
    if position == log.first and not log.floor then log.floor = before(position) end
    redis.call('XDEL', stream, position)
    log.length = log.length - 1
    if position == log.first then streams().look_at_first() end
    return compared
  end

  return {event = remove_event, unindex = unindex}
end)
