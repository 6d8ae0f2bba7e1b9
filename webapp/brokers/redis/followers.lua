-- What the processes that follow the event log say of themselves, and the turn of large appends, in a
-- hash. Part of log.lua.
--   a process  '<time> <total> <1 or 0>': the bytes appended up to where it has read, and whether
--              single events come to it, at a time (ms)
--   #turn      '<process> <time>': it has the turn until then; '-' rests

local live_ms, old_ms = 2500, 60000 -- a process that has said nothing for so long has died or hangs
local max_followers, longest_turn_ms = 1000, 5000

-- Return how many bytes the slowest follower has yet to read, and whether single events come to
-- another process.
local function look_at_followers(process, now)
  local unread, beside_singles = 0, 0
  if redis.call('HLEN', followers) > max_followers then redis.pcall('DEL', followers) end
  local flat = redis.call('HGETALL', followers)
  for i = 1, #flat, 2 do
    local at, total, singles = string.match(flat[i + 1], '^(%d+) (%d+) ([01])$')
    local age = at and math.abs(now - at) or old_ms
    if at and age <= live_ms then
      unread = math.max(unread, log.total - total)
      if singles == '1' and flat[i] ~= process then beside_singles = 1 end
    elseif age >= old_ms and flat[i] ~= '#turn' then
      redis.pcall('HDEL', followers, flat[i])
    end
  end
  return unread, beside_singles
end

-- Note how far a process has read. A server whose memory is full may refuse it.
local function note_follower(process, total, singles, now)
  delete_unless(followers, 'hash')
  if total then
    local record = {number(now), number(total), singles}
    redis.pcall('HSET', followers, process, table.concat(record, ' '))
  end
end

-- Return 1 and give a process the turn for some time (ms) if nobody else has it, and each follower has
-- read all but some bytes. Return 0 if another process has it, or 2 if a follower is behind.
local function take_turn(process, ms, most_unread)
  local now = clock()
  delete_unless(followers, 'hash')
  local turn = redis.call('HGET', followers, '#turn') or ''
  local holder, ends = string.match(turn, '^(%S+) (%d+)$')
  local left = holder and holder ~= process and ends - now or 0
  if left > 0 and left <= longest_turn_ms then return 0 end
  if look_at_followers(process, now) > tonumber(most_unread) then return 2 end
  redis.pcall('HSET', followers, '#turn', process .. ' ' .. number(now + ms))
  return 1
end

-- Let nobody have the turn for some time (ms).
local function end_turn(process, ms)
  local turn = has_type(followers, 'hash') and redis.call('HGET', followers, '#turn') or ''
  if string.match(turn, '^%S+') == process then
    redis.pcall('HSET', followers, '#turn', '- ' .. number(clock() + ms))
  end
end
