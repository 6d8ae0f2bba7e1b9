-- What the scripts have in common. The hub sends it before each of them.

local max_total = 9007199254740992 -- from here numbers are not exact: the entry is damaged

-- Return a function that makes something once, when it is needed. Each call of a script makes all of its
-- functions, and that takes as long as some commands. So what few calls need is made so.
local function lazily(make)
  local made
  return function()
    made = made or make()
    return made
  end
end

local function number(value) return string.format('%.0f', value) end

-- Return the server's time in milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function has_type(key, expected)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == expected
end

-- Return whether there is such a key.
local function require_type(key, expected)
  local found = redis.call('TYPE', key).ok
  if found == 'none' or found == expected then return found ~= 'none' end
  error({err = 'WRONGKEY ' .. key .. ' ' .. expected})
end

-- Delete a key of another type. Returns whether it was one.
local function delete_unless(key, expected)
  return not has_type(key, expected) and redis.call('DEL', key) == 1
end

-- Return the bytes that were ever appended to a stream up to an entry, or false.
local function total_of(entry)
  local total = entry and entry[2][3] == 'total' and tonumber(entry[2][4])
  return total and total >= 0 and total < max_total and total
end

-- Return after how many milliseconds an entry expires, or false.
local function ttl_of(entry)
  local ttl = entry[2][5] == 'ttl' and tonumber(entry[2][6])
  return ttl and ttl > 0 and ttl < max_total and ttl
end

-- Return the newest position of a stream, its first and its last entry, and how many it has.
local function examine(stream)
  local info, flat = {}, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  return info['last-generated-id'], info['first-entry'], info['last-entry'], info['length']
end

-- An entry of the hub has a total. One of another program may have any size.
local function is_too_large(entry, most)
  if total_of(entry) then return false end
  local bytes = 0
  for _, text in ipairs(entry[2]) do bytes = bytes + #text + 16 end
  return bytes > most
end
