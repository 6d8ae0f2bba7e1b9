-- The index by topic: in which positions of the stream a topic occurs. Part of log.lua and topics.lua.
--   directory            a sorted set of all topics, and of '', so that it is never empty
--   ...:public:TOPIC     a list of the positions of the events that have it and are not private
--   ...:private:TOPIC    of those that are private
--
-- The field #index has four parts: '<upto> <first> <rounds> <swept>'.
--   upto    all entries up to this position are in the index, and no others. Older hubs append behind
--           it; what they append is indexed first, some at a time, at the next call. There is no such
--           field while the index of another event log, or a damaged one, is being removed.
--   first   the first position of the stream when the index was last written. If it is another one,
--           an older hub has trimmed, and the lists may begin with positions that the stream has not.
--   rounds  how often all topics must still be looked at for such positions
--   swept   the last topic that was looked at
--
-- Bounds: a call indexes and removes a bounded number of topics of events.

local public, private = directory .. ':public:', directory .. ':private:'
local topic_bytes = 300 -- of the server's memory, for a topic with one event; beside its name
local position_bytes = 24
local step_bytes, step_topics = 1048576, 500 -- of the entries that one call indexes

local several_topics = lazily(function()
  local function escaped_name(text, at)
    local last = at + 1
    while true do
      last = string.find(text, '["\\]', last)
      if not last then return end
      if string.byte(text, last) == 34 then break end
      last = last + 2
    end
    local done, names = pcall(cjson.decode, '[' .. string.sub(text, at, last) .. ']')
    if done then return names[1], last + 1 end
  end

  -- The value of a name: the first one may have options, which are numbers.
  local function value_after(text, at)
    local options, after = string.match(text, '^:({[^{}]*})()', at)
    return options, after or string.match(text, '^:0()', at)
  end

  local function several_topics(text)
    local names, seen, at, options, last = {}, {}, 3, nil, nil
    local begin = string.sub(text, 1, 2)
    if begin == '[[' then last = 93 elseif begin == '[{' then last = 125 else return names end
    repeat
      if string.byte(text, at) ~= 34 then return {} end
      local name, after = string.match(text, '^"([^"\\]*)"()', at)
      if not name then name, after = escaped_name(text, at) end
      if not name or name == '' or string.find(name, '%c') then return {} end
      if not seen[name] then
        seen[name], names[#names + 1] = true, name
      end
      if last == 125 then
        local found
        found, after = value_after(text, after)
        if not after then return {} end
        options = options or found
      end
      local separator = string.byte(text, after)
      if separator ~= 44 and separator ~= last then return {} end
      at = after + 1
    until separator == last
    return names, options
  end

  return several_topics
end)

-- Return the topics of a draft, whether it is private, and its options if it has any; no topics if it
-- is damaged.
local function topics_of(text)
  local is_private = false
  if not string.find(text, ',false,null]', -12, true) then
    local word = string.match(string.sub(text, -16), ',(%a+),%w+%]$')
    if word ~= 'true' and word ~= 'false' then return {} end
    is_private = word == 'true'
  end
  local one = string.match(text, '^%[%["([^"\\%c]+)"%],')
  if one then return {one}, is_private end
  local names, options = several_topics()(text)
  return names, is_private, options
end

-- Return whether a draft ends its topics.
local function is_end(text)
  if string.byte(text, 2) ~= 123 then return false end
  local _, _, options = topics_of(text)
  return options and string.find(options, '[{,]"end":1[,}]') ~= nil
end

-- Add the next event. Returns about how many bytes of memory that takes. `is_behind`: what the lists
-- have is not certain. Those of topics that are new in the directory are of an index that was lost.
local function add_to_index(position, names, is_private, is_behind)
  local bytes, own, other = 0, public, private
  if is_private then own, other = private, public end
  for _, name in ipairs(names) do
    local is_new = is_behind and redis.call('ZADD', directory, 0, name) == 1
    if is_new then redis.call('DEL', own .. name, other .. name) end
    local newest = is_behind and redis.call('LINDEX', own .. name, -1)
    local is_known = newest and not is_before(newest, position)
    local length = is_known and 2 or redis.call('RPUSH', own .. name, position)
    if length == 1 and not is_new and redis.call('ZADD', directory, 0, name) == 0 and
      redis.call('EXISTS', other .. name) == 0 then
      error('WRONGTYPE the server has evicted a part of it')
    end
    -- The events of a topic share what the topic takes.
    bytes = bytes + position_bytes + (topic_bytes + 2 * #name) / length
  end
  index.upto = position
  return math.floor(bytes)
end

-- Call a function that changes the index. If the index is damaged, it is removed and built again.
local function guard(change, ...)
  local done, problem = pcall(change, ...)
  if done then return problem end
  problem = tostring(type(problem) == 'table' and problem.err or problem)
  if not string.find(problem, 'WRONGTYPE', 1, true) then error({err = problem}) end
  redis.log(redis.LOG_WARNING, 'tidings: the index by topic is built again: ' .. problem)
  index.upto = false
end

local function is_whole() return index.upto and not is_before(index.upto, log.head) end

local index_parts = lazily(function()
  -- Return how many positions of a list come after one, or are it. New ones are found fastest.
  local function count_from(key, position, inclusive)
    local function is_counted(place)
      local found = redis.call('LINDEX', key, -place)
      if not found then return false end
      if inclusive then return not is_before(found, position) end
      return is_before(position, found)
    end
    local low, high = 0, 1
    while is_counted(high) do low, high = high, 2 * high end
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if is_counted(middle) then low = middle else high = middle end
    end
    return low
  end

  local function forget_if_empty(name)
    if redis.call('EXISTS', public .. name, private .. name) == 0 then
      redis.call('ZREM', directory, name)
    end
  end

  local function drop_stale(name)
    for _, key in ipairs({public .. name, private .. name}) do
      local oldest = redis.call('LINDEX', key, 0)
      if oldest and not (log.first and not is_before(oldest, log.first)) then
        local left = log.first and count_from(key, log.first, true) or 0
        redis.call('LTRIM', key, left > 0 and -left or 1, left > 0 and -1 or 0)
      end
    end
    forget_if_empty(name)
  end

  -- Look at some topics for positions that the stream has not. Returns how many.
  local function sweep(most)
    if index.rounds == 0 or not index.upto then return 0 end
    local names = redis.call('ZRANGEBYLEX', directory, '(' .. index.swept, '+', 'LIMIT', 0, most)
    for _, name in ipairs(names) do drop_stale(name) end
    index.swept = names[#names] or ''
    if #names < most then index.rounds, index.swept = index.rounds - 1, '' end
    return #names
  end

  -- Remove what is left of another index, some at a time. Then nothing is in the index.
  local function erase(most)
    delete_unless(directory, 'zset')
    local found = redis.call('ZPOPMIN', directory, most)
    for i = 1, #found, 2 do redis.call('DEL', public .. found[i], private .. found[i]) end
    if #found < 2 * most then
      redis.call('ZADD', directory, 0, '')
      index.upto, index.rounds, index.swept = '0-0', 0, ''
    end
  end

  -- Remove the oldest event. Positions before it are of events that others trimmed.
  local function remove_from_index(position, names, is_private)
    for _, name in ipairs(names) do
      local key = (is_private and private or public) .. name
      local oldest = redis.call('LPOP', key)
      if oldest and is_before(oldest, position) then
        redis.call('LTRIM', key, -count_from(key, position, true), -1)
        oldest = redis.call('LPOP', key)
      end
      if oldest ~= position then error('WRONGTYPE an event is missing') end
      if redis.call('EXISTS', key) == 0 then forget_if_empty(name) end
    end
  end

  local function index_entries(most)
    local from = index.upto
    streams().walk('XRANGE', from, '+', most, step_bytes, function(entry)
      local text = entry[2][1] == 'draft' and entry[2][2] or ''
      local names, is_private = topics_of(text)
      local ttl = ttl_of(entry)
      if ttl and ms_of(entry[1]) + ttl <= clock() then names = {} end
      add_to_index(entry[1], names, is_private, true)
      if is_end(text) then topic_ends().store(entry[1], names, is_private) end
      most = most - #names
      return most > 0 and #text + 1
    end)
    if index.upto == from then index.upto = log.head end -- what followed was deleted
  end

  -- Do some of what is left to do: that many topics of events, or a few more.
  local function tend(most)
    most = math.min(step_topics, 100 + 2 * most)
    if not index.upto then guard(erase, most) end
    if index.upto and is_before(index.upto, log.head) then guard(index_entries, most) end
    if index.upto then guard(sweep, math.floor(most / 4)) end
  end

  return {count_from = count_from, remove = remove_from_index, tend = tend}
end)

local function tend_index(most)
  if index.rounds > 0 or not is_whole() then index_parts().tend(most) end
end
