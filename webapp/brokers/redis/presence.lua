-- The presence store: subscribers by process, and notices that every process follows.
-- KEYS: owner (a process) -> when its lease ends; the notices, as a stream; revoked token -> until
-- when it is stored; subject -> when it was revoked.
-- The subscribers of an owner have a hash of their own, so that they can be deleted at once.
-- ARGV: a verb, and what it needs.
--
-- Bounds: a call that writes works as long as its changes are, and drops max_deleted subscribers or
-- max_deleted_bytes of their records. A call that reads returns a page.
-- What can be made again is deleted where it is of another type; what cannot be is named.

local owners, notices, revoked, subjects = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- Bytes in one entry, and read at once; how many entries and bytes are kept.
local batch_bytes, max_entries, max_bytes = 65536, 4096, 4194304
local max_deleted, max_deleted_bytes = 500, 262144 -- subscribers of one call, and their records
local page_entries = 500 -- of a listing, about
local max_record_bytes, max_entry_bytes = 1048576, 4194304 -- of other programs; larger ones go

local function subscribers_key(owner) return owners .. ':' .. owner end

-- Return the total of the first entry that a command finds: the bytes of all notices up to it.
local function total_at(command, from, to)
  return total_of(redis.call(command, notices, from, to, 'COUNT', 1)[1]) or 0
end

-- A new stream begins at a number of the server's time, in microseconds: there are never as many
-- notices, so all processes see that they missed some.
local function create_notices()
  local time = redis.call('TIME')
  local position = '0-' .. number(time[1] * 1000000 + time[2])
  redis.call('XADD', notices, position, 'lines', '', 'total', '0')
  redis.call('XDEL', notices, position)
end

local function ensure_notices()
  delete_unless(notices, 'stream')
  if redis.call('EXISTS', notices) == 0 then create_notices() end
end

-- The numbers of entries have no gaps, so that a process sees whether it missed some. Each has the
-- bytes of all notices so far: a difference is the size of those in between.
local function add_entry(lines)
  local text = table.concat(lines, '\n')
  local total = total_at('XREVRANGE', '+', '-') + #text
  local entry = {'XADD', notices, 'MAXLEN', max_entries, '0-*', 'lines', text, 'total', number(total)}
  local added = redis.pcall(unpack(entry))
  if type(added) == 'table' and added.err then
    -- Only where another program has added an entry, none of the hub's can follow.
    if string.match(examine(notices), '^0%-') then error(added) end
    redis.call('DEL', notices)
    create_notices()
    redis.call(unpack(entry))
  end
  while total - total_at('XRANGE', '-', '+') > max_bytes do
    redis.call('XTRIM', notices, 'MAXLEN', redis.call('XLEN', notices) - 1)
  end
end

local function add_notices(lines)
  local part, size = {}, 0
  if #lines > 0 then ensure_notices() end
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

-- Delete some subscribers of an owner, and the owner after the last. The server serves nobody else
-- meanwhile, and followers of the notices need time to read them. Returns 1 while more are left.
local function drop_some(owner)
  local key, names, lines, size, cursor = subscribers_key(owner), {}, {}, 0, '0'
  delete_unless(key, 'hash')
  for _ = 1, 1000 do -- slots of those that were deleted are empty
    local found = redis.call('HSCAN', key, cursor, 'COUNT', 100)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      local name, record = found[2][i], found[2][i + 1]
      if not names[name] then
        names[name] = true
        lines[#lines + 1] = '-' .. name .. ' ' .. record
        size = size + #lines[#lines]
      end
    end
    if cursor == '0' or #lines >= max_deleted or size >= max_deleted_bytes then break end
  end
  for name in pairs(names) do redis.call('HDEL', key, name) end
  add_notices(lines)
  if redis.call('EXISTS', key) == 1 then return 1 end
  redis.call('ZREM', owners, owner)
  return 0
end

-- Returns 1 while more subscribers of processes whose lease is over are left.
local function drop_expired()
  local dead = redis.call('ZRANGEBYSCORE', owners, '-inf', number(clock()), 'LIMIT', 0, 2)
  if not dead[1] then return 0 end
  return math.max(drop_some(dead[1]), #dead - 1)
end

local verbs = {drop_expired = drop_expired}

-- ARGV from 2: an owner, its lease (ms), and for each change a subscriber id and a record, or '' if
-- it left. Returns whether the owner had a lease, and whether `drop_expired` has more to do.
function verbs.heartbeat()
  local owner, now, lines = ARGV[2], clock(), {}
  local key = subscribers_key(owner)
  delete_unless(owners, 'zset')
  local damaged, known = delete_unless(key, 'hash'), redis.call('ZSCORE', owners, owner)
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
  ensure_notices()
  add_notices(lines)
  return {known and not damaged and 1 or 0, drop_expired()}
end

-- Returns 1 while it has more to do. The lease is over at once, so that others may do the rest.
function verbs.deregister()
  if not has_type(owners, 'zset') then return 0 end
  redis.call('ZADD', owners, 0, ARGV[2])
  return drop_some(ARGV[2])
end

function verbs.owners()
  if not has_type(owners, 'zset') then return {} end
  return redis.call('ZRANGEBYSCORE', owners, number(clock()), '+inf')
end

-- ARGV from 2: an owner, a cursor, at first 0, and a text. Returns the next cursor, 0 at the end, and
-- some subscribers whose record has the text.
function verbs.subscribers()
  local key, rows = subscribers_key(ARGV[2]), {}
  if not has_type(key, 'hash') then return {'0', rows} end
  local after, flat = unpack(redis.call('HSCAN', key, ARGV[3], 'COUNT', page_entries))
  for i = 1, #flat, 2 do
    if #flat[i + 1] > max_record_bytes then
      redis.pcall('HDEL', key, flat[i])
    elseif string.find(flat[i + 1], ARGV[4], 1, true) then
      rows[#rows + 1], rows[#rows + 2] = flat[i], flat[i + 1]
    end
  end
  return {after, rows}
end

-- ARGV 2: a number, or ''. Returns the first number that is kept or false, the last one returned,
-- and the entries after the number, some at a time; from the first if none has that number yet.
function verbs.notices_after()
  if ARGV[2] == '' then pcall(ensure_notices) end
  if not has_type(notices, 'stream') or redis.call('EXISTS', notices) == 0 then
    return {false, '0-0', {}}
  end
  local last, first = examine(notices)
  local newest, number_after, lines = string.match(last, '^0%-(%d+)$'), tonumber(ARGV[2]), {}
  if newest and number_after then
    if number_after > tonumber(newest) then number_after = 0 end
    local from, size = '0-' .. number(number_after), 0
    while size < batch_bytes and #lines < 64 do
      local found = redis.call('XRANGE', notices, '(' .. from, '+', 'COUNT', 4)
      for _, entry in ipairs(found) do
        from, last = entry[1], entry[1]
        local is_huge = is_too_large(entry, max_entry_bytes)
        if is_huge then redis.pcall('XDEL', notices, from) end
        lines[#lines + 1] = not is_huge and entry[2][1] == 'lines' and entry[2][2] or ''
        size = size + #lines[#lines]
      end
      if #found < 4 then break end
    end
  end
  return {first and first[1], last, lines}
end

function verbs.broadcast()
  add_notices({ARGV[2]})
end

-- ARGV from 2: a token, until when to store it (ms), how many are stored at most, a notice.
function verbs.revoke()
  require_type(revoked, 'zset')
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', number(clock()))
  local known = redis.call('ZSCORE', revoked, ARGV[2])
  if not known and redis.call('ZCARD', revoked) >= tonumber(ARGV[4]) then return 0 end
  redis.call('ZADD', revoked, ARGV[3], ARGV[2])
  add_notices({ARGV[5]})
  return 1
end

local function store_subject(subject, at)
  local before = redis.call('ZSCORE', subjects, subject)
  if not before or tonumber(before) < tonumber(at) then redis.call('ZADD', subjects, at, subject) end
end

-- ARGV from 2: a subject, when it was revoked, the age at which others are deleted (ms), how many
-- are stored at most, a notice. It is the server's clock that counts: that of one hub may be wrong.
function verbs.revoke_subject()
  require_type(subjects, 'zset')
  if tonumber(ARGV[4]) > 0 then
    redis.call('ZREMRANGEBYSCORE', subjects, '-inf', '(' .. number(clock() - ARGV[4]))
  end
  local known = redis.call('ZSCORE', subjects, ARGV[2])
  if not known and redis.call('ZCARD', subjects) >= tonumber(ARGV[5]) then return 0 end
  store_subject(ARGV[2], ARGV[3])
  add_notices({ARGV[6]})
  return 1
end

-- Older hubs stored each revocation of a subject among the tokens, as ["subject", "name", time].
local function move_subject(what)
  local name, at = string.match(what, '^%["subject", (".*"), ([%d.]+)%]$')
  if name and has_type(subjects, 'zset') then
    pcall(function() -- it may be damaged
      store_subject(cjson.decode('[' .. name .. ']')[1], string.format('%.3f', at * 1000))
      redis.call('ZREM', revoked, what)
    end)
  end
end

-- ARGV 2: a cursor, at first 0. Returns the next one, 0 at the end, and some tokens and times.
function verbs.revoked()
  require_type(revoked, 'zset')
  local found = redis.call('ZSCAN', revoked, ARGV[2], 'COUNT', page_entries)
  for i = 1, #found[2], 2 do move_subject(found[2][i]) end
  return found
end

-- The same, of subjects.
function verbs.subjects()
  require_type(subjects, 'zset')
  return redis.call('ZSCAN', subjects, ARGV[2], 'COUNT', page_entries)
end

return verbs[ARGV[1]]()
