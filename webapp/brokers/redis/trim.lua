-- How the stream is kept within its bounds. Part of log.lua and topics.lua.
--
-- The oldest events leave the stream and the index together, about as many as were added, so that no
-- call takes long. If many more must go, because a bound was lowered or the server's memory is full,
-- they leave the stream at once. Their positions are removed from the index later; see topic_index.lua.

-- How many events, or which part of the bytes, must be over a bound before some are trimmed: trimming
-- many together is cheaper.
local max_over, bytes_part = math.min(100, math.ceil(max_events / 8)), 64

local function oldest_at(now) return number(math.max(1, now - max_age)) .. '-0' end

local trims = lazily(function()
  -- Positions up to one are held no more, some at a time.
  local function release(position)
    local gone = {}
    for _, it in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', ms_of(position), 'LIMIT', 0, 1000)) do
      if not is_before(position, it) then gone[#gone + 1] = it end
    end
    if #gone == 0 then return end
    redis.call('ZREM', held, unpack(gone))
    redis.call('HDEL', remnants, unpack(gone))
  end

  -- This drops whole nodes, which costs next to nothing; the floor then lies before the first entry.
  local function trim_to(length)
    if redis.call('XTRIM', stream, 'MAXLEN', '~', math.max(1, length)) == 0 then return false end
    log.floor = false
    streams().look_at_first()
    release(log.first or log.head)
    mark_stale()
    return true
  end

  -- Entries of 0.1.0 have no total. While the first entry is one, the server estimates the bytes.
  local function bytes_kept()
    if log.first_total > 0 or not log.first then return log.total - log.first_total end
    local bytes = redis.pcall('MEMORY', 'USAGE', stream, 'SAMPLES', 1000)
    return type(bytes) == 'number' and bytes or 0
  end

  -- The newest entry stays.
  local function trim_bytes(most)
    if log.first_total == 0 then
      local kept = bytes_kept()
      if kept > most then trim_to(math.floor(log.length * most / kept)) end
    end
    local some = 1 -- more of them, one at a time, until they fill the oldest node
    while log.first_total > 0 and log.length > some and log.total - log.first_total > most do
      some = trim_to(log.length - some) and 1 or some + 1
    end
  end

  -- Drop the events up to a position. This is exact, and the floor is the newest dropped entry: a
  -- subscriber who has that one has missed nothing, however long no event was published.
  local function drop_up_to(position)
    local next_entry = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)[1]
    redis.call('XTRIM', stream, unpack(next_entry and {'MINID', next_entry[1]} or {'MAXLEN', 0}))
    log.floor = position
    streams().look_at_first()
    release(position)
  end

  local function drop_many(edge)
    local last = redis.call('XREVRANGE', stream, edge, '-', 'COUNT', 1)[1]
    if not last then return end
    drop_up_to(last[1])
    mark_stale()
  end

  -- Drop the oldest events that are over a bound, with their positions in the index.
  local function trim_some(most, now)
    local oldest, length, last = oldest_at(now), log.length, nil
    streams().walk('XRANGE', '0-0', '+', most, step_bytes, function(entry)
      local total, text = total_of(entry), entry[2][2]
      if not (length > max_events or is_before(entry[1], oldest) or
        length > 1 and total and log.total - total > max_bytes) then return end
      if entry[2][1] == 'draft' and index.upto and not is_before(index.upto, entry[1]) then
        local names, is_private = topics_of(text)
        if ttl_of(entry) then
          expirations().forget(entry[1], names, is_private)
        else
          guard(index_parts().remove, entry[1], names, is_private)
        end
        most = most - #names
      end
      length, last = length - 1, entry[1]
      return most > 0 and #text + 1
    end)
    if last then drop_up_to(last) end
  end

  -- Positions after the server's clock tell no age: the clock was ahead once. Their events count from
  -- when they are seen, so they are dropped after between one and two times max_age.
  local function trim_old(now)
    local oldest = oldest_at(now)
    if log.first and is_before(log.first, oldest) then drop_many('(' .. oldest) end
    local is_ahead = log.first and is_before(number(now + 1) .. '-0', log.head)
    local at, head = string.match(is_ahead and log.ahead or '', '^(%d+) (%d+%-%d+)$')
    at = tonumber(at)
    if not is_ahead then
      log.ahead = false
    elseif not at or at > now or now - at > max_age then
      if at and at <= now and is_position(head) then drop_many(head) end
      log.ahead = number(now) .. ' ' .. log.head
    end
  end

  local function all(most, now)
    trim_some(math.max(step_topics, most), now)
    trim_to(max_events + max_over)
    trim_bytes(max_bytes + max_bytes / bytes_part)
    trim_old(now)
  end

  return {all = all, to = trim_to, bytes = trim_bytes, bytes_kept = bytes_kept}
end)

local function trim(most)
  local now = clock()
  if log.ahead or log.first and (log.length - max_events >= max_over or log.first_total == 0 or
    log.total - log.first_total > max_bytes + max_bytes / bytes_part or
    ms_of(log.first) < now - max_age or ms_of(log.head) > now) then
    trims().all(most, now)
  end
end
