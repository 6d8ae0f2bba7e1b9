-- Lines of text, as the hub gets them: in parts, which it joins. A part has some small lines, or one
-- large text. To join all of them here took most of a page's time. Part of log.lua and topics.lua.

local part_bytes = 1024 -- about

local function new_lines()
  local lines, small, count, small_size = {size = 0, parts = {}}, {}, 0, 0

  local function flush()
    if count == 0 then return end
    lines.parts[#lines.parts + 1] = table.concat(small, '', 1, count)
    count, small_size = 0, 0
  end

  -- Returns how many bytes the line has.
  function lines.add(head, text)
    small[count + 1], small[count + 2] = head, ' '
    if #text < part_bytes then
      small[count + 3], small[count + 4], count = text, '\n', count + 4
      small_size = small_size + #text
      if small_size >= part_bytes then flush() end
    else
      count = count + 2
      flush()
      lines.parts[#lines.parts + 1], small[1], count = text, '\n', 1
    end
    local size = #head + #text + 2
    lines.size = lines.size + size
    return size
  end

  -- Add '<position> <draft>', or '<position>/<ttl> <draft>'.
  function lines.add_entry(entry)
    local head, fields = entry[1], entry[2]
    local text = fields[1] == 'draft' and fields[2] or ''
    if string.find(text, '\n', 1, true) then text = '' end
    local ttl = fields[5] and ttl_of(entry)
    if ttl then head = head .. '/' .. number(ttl) end
    return lines.add(head, text)
  end

  -- Return all parts. Each line ends in a line feed.
  function lines.all()
    flush()
    return lines.parts
  end

  return lines
end
