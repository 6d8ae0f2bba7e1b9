-- Who listens: leases beside the log, and notices that every process follows.
-- KEYS from 4: owner -> when its lease ends; the notices, as a stream; what is refused -> until when;
-- subject -> when it was revoked.
-- The readers of an owner lie in a hash of its own, so that they can be dropped at once.
-- ARGV from 4: what the verb needs.

local owners, notices, revoked, subjects = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
-- Bytes in one entry, and read at once; entries and bytes that are kept.
local together, most, most_bytes = 65536, 4096, 4194304
local most_total = 9007199254740992 -- a number that is not exact any more is damaged

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function number(value) return string.format('%.0f', value) end

local function readers_of(owner) return owners .. ':' .. owner end

local function edge(command, from, to)
  local entry = redis.call(command, notices, from, to, 'COUNT', 1)[1]
  local total = entry and tonumber(entry[2][4])
  return total and total >= 0 and total < most_total and total or 0
end

-- The numbers of notices have no gaps, so that one who follows them sees what it missed. With each
-- lies how many bytes there ever were, which tells what those cost that are kept.
local function write(lines)
  local text = table.concat(lines, '\n')
  local total = edge('XREVRANGE', '+', '-') + #text
  local entry = {'XADD', notices, 'MAXLEN', most, '0-*', 'lines', text, 'total', number(total)}
  local added = redis.pcall(unpack(entry))
  if type(added) == 'table' and added.err then
    -- Something that this hub never writes is there: begun anew, all notice that they missed some.
    redis.call('DEL', notices)
    redis.call(unpack(entry))
  end
  while total - edge('XRANGE', '-', '+') > most_bytes do
    redis.call('XTRIM', notices, 'MAXLEN', redis.call('XLEN', notices) - 1)
  end
end

local function say(lines)
  local part, size = {}, 0
  for _, line in ipairs(lines) do
    part[#part + 1] = line
    size = size + #line
    if size >= together then
      write(part)
      part, size = {}, 0
    end
  end
  if #part > 0 then write(part) end
end

local function drop(owner)
  local key, lines = readers_of(owner), {}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do lines[#lines + 1] = '-' .. flat[i] .. ' ' .. flat[i + 1] end
  say(lines)
  redis.call('DEL', key)
  redis.call('ZREM', owners, owner)
end

-- ARGV from 4: an owner, its lease (ms), and as often as there are changes an id and a text, or ''
-- for one who left. Returns whether the owner was known.
function verbs.renew()
  local owner, now, lines = ARGV[4], clock(), {}
  local key, known = readers_of(owner), redis.call('ZSCORE', owners, owner)
  redis.call('ZADD', owners, number(now + ARGV[5]), owner)
  for i = 6, #ARGV, 2 do
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
  say(lines)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', owners, '-inf', number(now))) do drop(dead) end
  return known and 1 or 0
end

function verbs.retire()
  drop(ARGV[4])
end

function verbs.owners()
  return redis.call('ZRANGEBYSCORE', owners, number(clock()), '+inf')
end

function verbs.readers()
  return redis.call('HGETALL', readers_of(ARGV[4]))
end

-- ARGV 4: a number, or ''. Returns the first number that is kept or false, the last, and the
-- notices after it, some at a time.
function verbs.news()
  if redis.call('EXISTS', notices) == 0 then return {false, '0-0', {}} end
  local info, flat = {}, redis.call('XINFO', 'STREAM', notices)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local last, lines = info['last-generated-id'], {}
  if ARGV[4] ~= '' then
    local from, size = '0-' .. ARGV[4], 0
    while size < together and #lines < 64 do
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

function verbs.post()
  say({ARGV[4]})
end

-- ARGV from 4: what, until when (ms), how many are remembered at most, a notice.
function verbs.revoke()
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', number(clock()))
  local known = redis.call('ZSCORE', revoked, ARGV[4])
  if not known and redis.call('ZCARD', revoked) >= tonumber(ARGV[6]) then return 0 end
  redis.call('ZADD', revoked, ARGV[5], ARGV[4])
  say({ARGV[7]})
  return 1
end

function verbs.revoked()
  return redis.call('ZRANGE', revoked, 0, -1, 'WITHSCORES')
end

local function remember(subject, at)
  local before = redis.call('ZSCORE', subjects, subject)
  if not before or tonumber(before) < tonumber(at) then redis.call('ZADD', subjects, at, subject) end
end

-- ARGV from 4: a subject, when it was revoked, before when such are forgotten (ms), how many are
-- remembered at most, a notice.
function verbs.revoke_subject()
  redis.call('ZREMRANGEBYSCORE', subjects, '-inf', '(' .. ARGV[6])
  local known = redis.call('ZSCORE', subjects, ARGV[4])
  if not known and redis.call('ZCARD', subjects) >= tonumber(ARGV[7]) then return 0 end
  remember(ARGV[4], ARGV[5])
  say({ARGV[8]})
  return 1
end

-- A hub of before wrote each revocation of a subject beside the tokens, as ["subject", "name", time].
function verbs.subjects()
  for _, what in ipairs(redis.call('ZRANGE', revoked, 0, -1)) do
    local name, at = string.match(what, '^%["subject", (".*"), ([%d.]+)%]$')
    if name then
      pcall(function() -- it may be damaged
        remember(cjson.decode('[' .. name .. ']')[1], string.format('%.3f', at * 1000))
      end)
      redis.call('ZREM', revoked, what)
    end
  end
  return redis.call('ZRANGE', subjects, 0, -1, 'WITHSCORES')
end
