-- What must not be torn apart: one script, so that a server forgets or learns it as a whole.
-- KEYS: the stream; own id -> place, and the floor where it is known; "place id", oldest first.
-- ARGV: a verb, how many events to keep, how long (ms), and what the verb needs.

local stream, ids, queue = KEYS[1], KEYS[2], KEYS[3]
local max_events, max_age = ARGV[2], ARGV[3]

-- An entry at or below a place, if any is left there. To be asked before XREVRANGE, which walks
-- through the whole stream where there is none.
local function kept_up_to(place)
  return redis.call('XRANGE', stream, '-', place, 'COUNT', 1)[1]
end

-- Own ids go in step with their events, a bounded number at a time. One that was published anew
-- after it had been dropped has two items in the queue, and only the newer one is its own.
local function forget(most)
  for _ = 1, most do
    local item = redis.call('LINDEX', queue, 0)
    if not item then return end
    local place, id = string.match(item, '^(%S+) (.*)$')
    if kept_up_to(place) then return end
    redis.call('LPOP', queue)
    if redis.call('HGET', ids, id) == place then redis.call('HDEL', ids, id) end
  end
end

-- By number whole nodes are dropped, which costs next to nothing, and the floor is then what lies
-- before the first entry. By age it is exact, so that the floor is the last that was dropped: a
-- reader who has that one has missed nothing, however long the log was silent.
local function trim()
  if redis.call('XTRIM', stream, 'MAXLEN', '~', max_events) > 0 then
    redis.call('HDEL', ids, '#floor')
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local oldest = string.format('%.0f-0', math.max(1, now - max_age))
  if kept_up_to('(' .. oldest) then
    local last = redis.call('XREVRANGE', stream, '(' .. oldest, '-', 'COUNT', 1)[1]
    redis.call('XTRIM', stream, 'MINID', oldest)
    redis.call('HSET', ids, '#floor', last[1])
  end
end

-- The text that an own id was kept with, and its place.
local function find(id)
  local place = redis.call('HGET', ids, id)
  local entry = place and redis.call('XRANGE', stream, place, place)[1]
  if entry then return entry[2][2], place end
end

-- ARGV from 4: an own id or '', and a draft, as often as there are drafts. Nothing is written
-- before all are checked, and full memory is found at the first write or not at all: all drafts
-- are appended, or none. Returns their places, or false where an own id is taken.
local function append()
  local texts, places, answer = {}, {}, {}
  for i = 4, #ARGV, 2 do
    local id, text = ARGV[i], ARGV[i + 1]
    if id ~= '' then
      if not texts[id] then texts[id], places[id] = find(id) end
      if (texts[id] or text) ~= text then return false end
      texts[id] = text
    end
  end
  for i = 4, #ARGV, 2 do
    local id = ARGV[i]
    local place = places[id]
    if not place then
      place = redis.call('XADD', stream, '*', 'draft', ARGV[i + 1])
      if id ~= '' then
        places[id] = place
        redis.call('HSET', ids, id, place)
        redis.call('RPUSH', queue, place .. ' ' .. id)
      end
    end
    answer[#answer + 1] = place
  end
  trim()
  forget(#ARGV)
  return answer
end

-- "place draft" for each entry that command finds from a place to an edge. They are looked at a few
-- at a time: one may be a megabyte, and the server serves nobody else meanwhile.
local function page(command, from, edge, limit, bytes)
  local lines, size = {}, 0
  while #lines < limit and size < bytes do
    if edge == '-' and not kept_up_to('(' .. from) then break end
    local count = math.min(16, limit - #lines)
    local entries = redis.call(command, stream, '(' .. from, edge, 'COUNT', count)
    for _, entry in ipairs(entries) do
      local text = entry[2][1] == 'draft' and entry[2][2] or ''
      if string.find(text, '\n', 1, true) then text = '' end
      from = entry[1]
      lines[#lines + 1] = from .. ' ' .. text
      size = size + #text
      if size >= bytes then return lines end
    end
    if #entries < count then break end
  end
  return lines
end

-- A log begins at a place of its own time, which is its floor until something is trimmed.
local function be_born()
  local place = redis.call('XADD', stream, '*', 'born', '')
  redis.call('XDEL', stream, place)
  redis.call('HSET', ids, '#floor', place)
end

-- Trimming also when nothing is published lets a silent log age. It writes, so a master that became
-- a replica refuses, and is left; one that takes no writes for another reason, such as a full disk,
-- can still be read.
local function tend()
  if redis.call('EXISTS', stream) == 0 then be_born() end
  local done, problem = pcall(trim)
  if done then
    pcall(forget, 100)
  elseif string.find(problem.err or problem, 'READONLY', 1, true) then
    error({err = 'READONLY this is a replica'})
  end
end

-- ARGV from 4: what `page` needs. Returns the floor or false, the first place or false, the head,
-- whether the place asked from is held, and the lines.
local function read()
  tend()
  local place = ARGV[5]
  local lines = page(ARGV[4], place, ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]))
  local info, flat = {}, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local floor, first = redis.call('HGET', ids, '#floor'), info['first-entry']
  local held = #redis.call('XRANGE', stream, place, place)
  local head = info['last-generated-id']
  return {floor, first and first[1], head, held, table.concat(lines, '\n')}
end

-- ARGV 4: an own id. Returns its place, or false.
local function locate()
  local _, place = find(ARGV[4])
  return place or false
end

local verbs = {append = append, read = read, locate = locate, tend = tend}

return verbs[ARGV[1]]()
