-- The presence store: subscribers by process, and notices that every process follows.
-- KEYS: owner (a process) -> when its lease ends; the notices, as a stream; revoked token -> until
-- when it is stored; subject -> when it was revoked.
-- The subscribers of an owner have a hash of their own, so that they can be deleted at once.
-- ARGV: a verb, and what it needs.

local owners, notices, revoked, subjects = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- Bytes in one entry, and read at once; how many entries and bytes are kept.
local batch_bytes, max_entries, max_bytes = 65536, 4096, 4194304
local max_total = 9007199254740992 -- from here numbers are not exact: the entry is damaged

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function number(value) return string.format('%.0f', value) end

local function subscribers_key(owner) return owners .. ':' .. owner end

-- Return the total of the first entry that a command finds: the bytes of all notices up to it.
local function total_at(command, from, to)
  local entry = redis.call(command, notices, from, to, 'COUNT', 1)[1]
  local total = entry and tonumber(entry[2][4])
  return total and total >= 0 and total < max_total and total or 0
end

-- The numbers of entries have no gaps, so that a process sees whether it missed some. Each has the
-- bytes of all notices so far: a difference is the size of those in between.
local function add_entry(lines)
  local text = table.concat(lines, '\n')
  local total = total_at('XREVRANGE', '+', '-') + #text
  local entry = {'XADD', notices, 'MAXLEN', max_entries, '0-*', 'lines', text, 'total', number(total)}
  local added = redis.pcall(unpack(entry))
  if type(added) == 'table' and added.err then
    -- The stream has something that a hub never writes. Start again; all processes notice that they
    -- missed some.
    redis.call('DEL', notices)
    redis.call(unpack(entry))
  end
  while total - total_at('XRANGE', '-', '+') > max_bytes do
    redis.call('XTRIM', notices, 'MAXLEN', redis.call('XLEN', notices) - 1)
  end
end

local function add_notices(lines)
  local part, size = {}, 0
  for _, line in ipairs(lines) do
    part[#part + 1] = line
    size = size + #line
    if size >= batch_bytes then
      add_entry(part)
      part, size = {}, 0
    end
  end
  if #part > 0 then add_entry(part) end
end

local function drop_owner(owner)
  local key, lines = subscribers_key(owner), {}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do lines[#lines + 1] = '-' .. flat[i] .. ' ' .. flat[i + 1] end
  add_notices(lines)
  redis.call('DEL', key)
  redis.call('ZREM', owners, owner)
end

local verbs = {}

-- ARGV from 2: an owner, its lease (ms), and for each change a subscriber id and a record, or '' if
-- it left. Returns whether the owner had a lease.
function verbs.heartbeat()
  local owner, now, lines = ARGV[2], clock(), {}
  local key, known = subscribers_key(owner), redis.call('ZSCORE', owners, owner)
  redis.call('ZADD', owners, number(now + ARGV[3]), owner)
  for i = 4, #ARGV, 2 do
    local id, text = ARGV[i], ARGV[i + 1]
    if text ~= '' then
      if redis.call('HSET', key, id, text) == 1 then lines[#lines + 1] = '+' .. id .. ' ' .. text end
    else
      local old = redis.call('HGET', key, id)
      if old then
        redis.call('HDEL', key, id)
        lines[#lines + 1] = '-' .. id .. ' ' .. old
      end
    end
  end
  add_notices(lines)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', owners, '-inf', number(now))) do drop_owner(dead) end
  return known and 1 or 0
end

function verbs.deregister()
  drop_owner(ARGV[2])
end

function verbs.owners()
  return redis.call('ZRANGEBYSCORE', owners, number(clock()), '+inf')
end

function verbs.subscribers()
  return redis.call('HGETALL', subscribers_key(ARGV[2]))
end

-- ARGV 2: a number, or ''. Returns the first number that is kept or false, the last one returned,
-- and the entries after the number, some at a time.
function verbs.notices_after()
  if redis.call('EXISTS', notices) == 0 then return {false, '0-0', {}} end
  local info, flat = {}, redis.call('XINFO', 'STREAM', notices)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local last, lines = info['last-generated-id'], {}
  if ARGV[2] ~= '' then
    local from, size = '0-' .. ARGV[2], 0
    while size < batch_bytes and #lines < 64 do
      local found = redis.call('XRANGE', notices, '(' .. from, '+', 'COUNT', 4)
      for _, entry in ipairs(found) do
        lines[#lines + 1] = entry[2][2]
        size = size + #entry[2][2]
        last = entry[1]
        from = last
      end
      if #found < 4 then break end
    end
  end
  return {info['first-entry'] and info['first-entry'][1], last, lines}
end

function verbs.broadcast()
  add_notices({ARGV[2]})
end

-- ARGV from 2: a token, until when to store it (ms), how many are stored at most, a notice.
function verbs.revoke()
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', number(clock()))
  local known = redis.call('ZSCORE', revoked, ARGV[2])
  if not known and redis.call('ZCARD', revoked) >= tonumber(ARGV[4]) then return 0 end
  redis.call('ZADD', revoked, ARGV[3], ARGV[2])
  add_notices({ARGV[5]})
  return 1
end

function verbs.revoked()
  return redis.call('ZRANGE', revoked, 0, -1, 'WITHSCORES')
end

local function store_subject(subject, at)
  local before = redis.call('ZSCORE', subjects, subject)
  if not before or tonumber(before) < tonumber(at) then redis.call('ZADD', subjects, at, subject) end
end

-- ARGV from 2: a subject, when it was revoked, before when others are deleted (ms), how many are
-- stored at most, a notice.
function verbs.revoke_subject()
  redis.call('ZREMRANGEBYSCORE', subjects, '-inf', '(' .. ARGV[4])
  local known = redis.call('ZSCORE', subjects, ARGV[2])
  if not known and redis.call('ZCARD', subjects) >= tonumber(ARGV[5]) then return 0 end
  store_subject(ARGV[2], ARGV[3])
  add_notices({ARGV[6]})
  return 1
end

-- Older hubs stored each revocation of a subject among the tokens, as ["subject", "name", time].
function verbs.subjects()
  for _, what in ipairs(redis.call('ZRANGE', revoked, 0, -1)) do
    local name, at = string.match(what, '^%["subject", (".*"), ([%d.]+)%]$')
    if name then
      pcall(function() -- it may be damaged
        store_subject(cjson.decode('[' .. name .. ']')[1], string.format('%.3f', at * 1000))
      end)
      redis.call('ZREM', revoked, what)
    end
  end
  return redis.call('ZRANGE', subjects, 0, -1, 'WITHSCORES')
end

return verbs[ARGV[1]]()
