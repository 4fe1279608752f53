-- How a log is stored, and rows that are plainly new: the second part of the script that windows.lua
-- tells of. The layout is told in redis_windows.py.

-- Row bytes and NARROW, slots, MAGIC, rows, sources, when the key's end was put off (s), latest at_ms.
local MAGIC, HEAD = '\1L', '<I2I4c2I4I2I4i8'
local NARROW = 0x8000 -- workers that know of wider rows refuse: no row has as many bytes
local ENTRIES = 26 -- bytes before the newest offset + 1 and tag of each source, 8 bytes each
local SPARE = 3 -- slots beyond the horizon, at least: so many rows are forgotten at once
local horizon_rows = horizon / R
local now = tonumber(call('TIME')[1])

-- Where the first slot begins: rows are aligned, so that joined logs are rows throughout.
local function base_of(sources, slots)
  return math.ceil((ENTRIES + 8 * sources + 2 * slots) / R) * R
end

-- As many slots as `least` take memory for in any case: the allocator's sizes are an eighth to a
-- quarter apart. A string has 6 bytes besides.
local slots_within = setmetatable({}, {
  __index = function(known, least)
    local size, step, slots = base_of(1, least) + least * R + 7, 16, least
    while 8 * step < size do
      step = 2 * step
    end
    local room = math.ceil(size / step) * step
    slots = math.max(slots, math.floor((room - ENTRIES - 14 - R) / (R + 2))) -- at least
    while base_of(1, slots + 1) + (slots + 1) * R + 7 <= room do
      slots = slots + 1
    end
    known[least] = slots
    return slots
  end,
})

local most_slots = slots_within[horizon_rows + SPARE]

local function slots_for(count, sources)
  local slots = slots_within[count + math.floor(count / 4)]
  if count <= most_slots then
    slots = math.min(slots, most_slots)
  end
  if (base_of(sources, slots) + slots * R + 1) % WIDE == 0 then
    slots = slots + 1 -- or workers that know of rows alone would take it for some
  end
  return slots
end

-- Rows as they were stored once, whole, as they are now.
local function narrowed(log)
  local own, theirs = {}, {}
  for row = 1, #log, WIDE do
    theirs[#theirs + 1] = sub(log, row + 8, row + 9)
    own[#own + 1] = sub(log, row, row + 5) .. sub(log, row + 10, row + 3 + R)
  end
  return table.concat(own), table.concat(theirs)
end

-- The rows of a log, and their marks.
local function unpacked(value)
  if sub(value, 7, 8) ~= MAGIC then -- as it was stored before there were heads: rows alone
    if #value % WIDE ~= 0 then
      return redis.error_reply('WINDOWROW a log is not made of rows of ' .. WIDE .. ' bytes')
    end
    return narrowed(value)
  end
  local bytes, slots, _, count, sources = unpack(HEAD, value)
  local marks_at = ENTRIES + 8 * sources
  if bytes == WIDE then
    local base = math.ceil((marks_at + 2 * slots) / WIDE) * WIDE
    return narrowed(sub(value, base + 1, base + count * WIDE))
  elseif bytes ~= R + NARROW then
    return redis.error_reply('WINDOWROW a log has rows of ' .. bytes % NARROW .. ' bytes')
  end
  local base = base_of(sources, slots)
  return sub(value, base + 1, base + count * R), sub(value, marks_at + 1, marks_at + 2 * count)
end

-- The value of `log`: `entries` and `theirs` are those of its sources and rows.
local function stored(slots, sources, latest, entries, theirs, log)
  local count = #log / R
  local head = pack(HEAD, R + NARROW, slots, MAGIC, count, sources, now, latest)
  local filling = base_of(sources, slots) - #head - #entries - #theirs
  local rest = string.rep('\0', (slots - count) * R + 1) -- the end
  return head .. entries .. theirs .. string.rep('\0', filling) .. log .. rest
end

-- The same, if nothing but the rows is known.
local function packed(log, theirs)
  local entries, newest, latest = {}, {}, unpack('<i6', log)
  for row = 1, #log, R do
    local at_ms, _, offset, source = unpack('<i6c6I6c2', log, row)
    newest[source] = math.max(offset, newest[source] or 0)
    latest = math.max(latest, at_ms)
  end
  for source, offset in pairs(newest) do
    entries[#entries + 1] = pack('<I6c2', offset, source)
  end
  return stored(slots_for(#log / R, #entries), #entries, latest, table.concat(entries), theirs, log)
end

-- A number in a command is written with 17 digits, which takes longer than the command does.
local written = setmetatable({}, {
  __index = function(known, number)
    known[number] = string.format('%d', number)
    return known[number]
  end,
})

local FRONT = written[ENTRIES + 8 + 2 * most_slots - 1] -- of a log of one source

-- Whether the newest rows, as far as a new one is judged by them, have its id. `recent` are marks,
-- the first of row `from`; rows from `count` on are not stored yet, they stand in `rows` from `at`.
local function repeats(key, mark, id, recent, from, base, count, at)
  local found = find(recent, mark, 1, true)
  while found do
    if found % 2 == 1 then
      local row, other = from + (found - 1) / 2, nil
      if row < count then
        local id_at = base + row * R + ID
        other = call('GETRANGE', key, written[id_at], written[id_at + 5])
      else
        local id_at = at + (row - count) * R + ID
        other = sub(rows, id_at, id_at + 5)
      end
      if other == id then
        return true
      end
    end
    found = find(recent, mark, found + 1, true)
  end
  return false
end

-- Appends a user's rows from `at` to `stop`. False if one may be a duplicate, late, or was judged
-- before: then nothing was written.
local function appended(key, user, at, stop)
  local front = call('GETRANGE', key, '0', FRONT)
  if sub(front, 7, 8) ~= MAGIC then
    return false
  end
  local bytes, slots, _, count, sources, touched, latest = unpack(HEAD, front)
  local marks_at = ENTRIES + 8 * sources
  local marks_end = marks_at + 2 * count
  if bytes ~= R + NARROW then
    return false
  elseif #front < marks_at then
    front = call('GETRANGE', key, '0', written[marks_at - 1])
  end

  local newest, mine, pending = limit[tag] or 0, nil, false
  for entry = ENTRIES, marks_at - 1, 8 do
    local offset, source = unpack('<I6c2', front, entry + 1)
    if source == tag then
      mine = entry
      newest = offset > newest and offset or newest
    end
    pending = pending or (limit[source] and offset > limit[source])
  end
  if not mine then
    return false
  end

  local base, from = base_of(sources, slots), math.max(0, count - horizon_rows)
  local recent
  if #front >= marks_end then
    recent = sub(front, marks_at + 2 * from + 1, marks_end)
  else
    recent = call('GETRANGE', key, written[marks_at + 2 * from], written[marks_end - 1])
  end
  for row = at, stop - 1, R do
    local at_ms, id, offset = unpack('<i6c6I6', rows, row)
    local mark_at = 2 * (row - 1) / R + 1
    local mark = sub(marks, mark_at, mark_at + 1)
    if offset <= newest or at_ms + lateness < latest then
      return false
    end
    if #recent > horizon_rows * 2 then
      recent, from = sub(recent, 3), from + 1
    end
    if repeats(key, mark, id, recent, from, base, count, at) then
      return false
    end
    newest, latest = offset, at_ms > latest and at_ms or latest
    if row + R < stop then
      recent = recent .. mark
    end
  end
  local fresh = sub(marks, 2 * (at - 1) / R + 1, 2 * (stop - 1) / R)

  local new, total = sub(rows, at, stop - 1), count + (stop - at) / R
  local entries = sub(front, ENTRIES + 1, mine) .. pack('<I6c2', newest, tag)
  entries = entries .. sub(front, mine + 9, marks_at)
  local due = math.abs(now - touched) > ttl / 100 -- the clock may have been ahead
  if due then
    touched = now
    call('EXPIRE', key, ttl)
  end
  if total <= slots then
    call('SETRANGE', key, written[base + count * R], new)
    call('SETRANGE', key, written[marks_end], fresh)
    local head = pack(HEAD, R + NARROW, slots, MAGIC, total, sources, touched, latest)
    call('SETRANGE', key, '0', head .. entries) -- last: what is beyond its counts does not exist
    return true
  end

  -- No slot is left: forget. What is kept moves to the front in place, as a string more of a log's
  -- length would take longer than all else; only a log of another length is written anew.
  local gone, log = math.max(0, count - horizon_rows), nil
  if pending then
    log = call('GETRANGE', key, written[base], written[base + count * R - 1])
    gone = forgettable(log, #log + 1, total * R, user) / R
    log = gone > 0 and sub(log, gone * R + 1) or log
  else
    log = call('GETRANGE', key, written[base + gone * R], written[base + count * R - 1])
  end
  local kept = #front >= marks_end and sub(front, marks_at + 2 * gone + 1, marks_end)
    or call('GETRANGE', key, written[marks_at + 2 * gone], written[marks_end - 1])
  kept, total = kept .. fresh, total - gone
  local needed = slots_for(total, sources)
  if needed ~= slots then
    call('SET', key, stored(needed, sources, latest, entries, kept, log .. new), 'EX', ttl)
    return true
  end
  local head = pack(HEAD, R + NARROW, slots, MAGIC, total, sources, touched, latest)
  call('SETRANGE', key, written[base], log)
  call('SETRANGE', key, written[base + #log], new)
  call('SETRANGE', key, '0', head .. entries .. kept)
  return true
end
