-- Events that expire. Part of log.lua and topics.lua.
--   ...:expires   a sorted set of their positions, by the time (ms) at which they expire
-- An entry of the stream has the field `ttl` (ms) behind its total. The field #expires has the first of
-- these times. While there is none, nothing is looked up.
--
-- Readers leave out what has expired. It leaves the stream and the index some at a time; the index does
-- not answer before.

local max_compared = 200000 -- positions in the index, in one call
local most_expired = 64 -- events, in one call: some milliseconds
-- A follower of 0.1.0 that waits at the newest event must find it there until it has read on.
local recent_ms = 500

local function is_due() return log.expires and log.expires <= clock() end

local expirations = lazily(function()
  local times = directory .. ':expires'

  local function note_first()
    local first = redis.call('ZRANGE', times, 0, 0, 'WITHSCORES')
    log.expires = tonumber(first[2]) or false
  end

  -- Store when a new event expires. Returns about how many bytes of memory that takes.
  local function store(position, ttl)
    delete_unless(times, 'zset')
    local time = ms_of(position) + ttl
    redis.call('ZADD', times, time, position)
    log.expires = math.min(log.expires or time, time)
    return 160
  end

  -- An event is trimmed; it may have left the index before.
  local function forget(position, names, is_private)
    redis.call('ZREM', times, position)
    taking_out().unindex(position, names, is_private)
  end

  -- Return whether a position is the newest, or was so after a time.
  local function was_head(position, time)
    if position == log.head or ms_of(log.head) <= time then return position == log.head end
    local after = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)[1]
    return not after or ms_of(after[1]) > time
  end

  -- Take an event out of the index; and out of the stream, if no follower may still wait at it.
  local function expire(position, now)
    local entry = entry_at(position)
    local text = entry and entry[2][1] == 'draft' and entry[2][2]
    if not text then return 0, true end
    local names, is_private = topics_of(text)
    if is_end(text) then topic_ends().reopen(position, names) end
    if was_head(position, now - recent_ms) then
      return taking_out().unindex(position, names, is_private), false
    end
    return taking_out().event(position, text, names, is_private), true
  end

  -- Positions that are held longer than others have room take the room of these.
  local function release()
    local over = redis.call('ZCARD', held) - max_events
    local gone = over > 0 and redis.call('ZPOPMIN', held, math.min(over, 1000)) or {}
    for i = 1, #gone, 2 do redis.call('HDEL', remnants, gone[i]) end
  end

  -- Take out some events that have expired.
  local function purge(most)
    local now, compared = clock(), 0
    delete_unless(times, 'zset')
    local due = redis.call('ZRANGEBYSCORE', times, '-inf', number(now), 'LIMIT', 0, most)
    for _, position in ipairs(due) do
      if compared > max_compared then break end
      local count, is_done = expire(position, now)
      compared = compared + count
      if is_done then
        redis.call('ZREM', times, position)
      else
        redis.call('ZADD', times, now + 2 * recent_ms, position)
      end
    end
    release()
    note_first()
  end

  return {store = store, forget = forget, purge = purge}
end)

-- Any call takes out a few expired events. `build` takes out more, because no client waits for its answer.
local function expire_due(most)
  if is_due() and is_whole() then expirations().purge(math.min(most_expired, math.ceil(most / 4))) end
end
