-- How a log is stored, and rows that are plainly new: the second part of the script that windows.lua
-- tells of. The layout is told in redis_windows.py.

-- Row bytes, slots, MAGIC, rows, sources, when the key's end was put off (s), latest at_ms.
local MAGIC, HEAD = '\1L', '<I2I4c2I4I2I4i8'
local ENTRIES = 26 -- bytes before the newest offset + 1 and tag of each source, 8 bytes each
local SPARE = 7 -- slots beyond the horizon: so many rows are forgotten at once
local horizon_rows = horizon / R
local now = tonumber(call('TIME')[1])

-- Where the first slot begins: rows are aligned, so that joined logs are rows throughout.
local function base_of(sources, slots)
  return math.ceil((ENTRIES + 8 * sources + 2 * slots) / R) * R
end

local function slots_for(count)
  local some = count + math.floor(count / 4)
  local most = horizon_rows + SPARE
  return count > most and some or math.min(some, most)
end

-- The rows of a log.
local function unpacked(value)
  if sub(value, 7, 8) ~= MAGIC then -- as it was stored before there were heads: rows alone
    if #value % R ~= 0 then
      return redis.error_reply('WINDOWROW the log of a user is not made of rows of ' .. R .. ' bytes')
    end
    return value
  end
  local bytes, slots, _, count, sources = unpack(HEAD, value)
  if bytes ~= R then
    return redis.error_reply('WINDOWROW the log of a user has rows of ' .. bytes .. ' bytes')
  end
  local base = base_of(sources, slots)
  return sub(value, base + 1, base + count * R)
end

-- The value of `log`: `entries` and `marks` are those of its sources and rows.
local function stored(slots, sources, latest, entries, marks, log)
  local count = #log / R
  local head = pack(HEAD, R, slots, MAGIC, count, sources, now, latest)
  local filling = base_of(sources, slots) - #head - #entries - #marks
  local rest = string.rep('\0', (slots - count) * R + 1) -- the end
  return head .. entries .. marks .. string.rep('\0', filling) .. log .. rest
end

-- The same, if nothing but the rows is known.
local function packed(log)
  local marks, entries, newest, latest = {}, {}, {}, unpack('<i8', log)
  for row = 1, #log, R do
    local at_ms, mark, _, offset, source = unpack('<i8c2c6I6c2', log, row)
    marks[#marks + 1] = mark
    newest[source] = math.max(offset, newest[source] or 0)
    latest = math.max(latest, at_ms)
  end
  for source, offset in pairs(newest) do
    entries[#entries + 1] = pack('<I6c2', offset, source)
  end
  local slots, told = slots_for(#log / R), table.concat(entries)
  return stored(slots, #entries, latest, told, table.concat(marks), log)
end

-- A number in a command is written with 17 digits, which takes longer than the command does.
local written = setmetatable({}, {
  __index = function(known, number)
    known[number] = string.format('%d', number)
    return known[number]
  end,
})

local FRONT = written[ENTRIES + 8 + 2 * (horizon_rows + SPARE) - 1] -- of a log of one source

-- Whether the newest rows, as far as a new one is judged by them, have its id. `recent` are marks,
-- the first of row `from`; rows from `count` on are not stored yet, they stand in `rows` from `at`.
local function repeats(key, id, recent, from, base, count, at)
  local mark = sub(id, 1, 2)
  local found = find(recent, mark, 1, true)
  while found do
    if found % 2 == 1 then
      local row, other = from + (found - 1) / 2, nil
      if row < count then
        local id_at = base + row * R + ID
        other = call('GETRANGE', key, written[id_at], written[id_at + 7])
      else
        local id_at = at + (row - count) * R + ID
        other = sub(rows, id_at, id_at + 7)
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
  if bytes ~= R then
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
  local recent, fresh = nil, {}
  if #front >= marks_end then
    recent = sub(front, marks_at + 2 * from + 1, marks_end)
  else
    recent = call('GETRANGE', key, written[marks_at + 2 * from], written[marks_end - 1])
  end
  for row = at, stop - 1, R do
    local at_ms, id, offset = unpack('<i8c8I6', rows, row)
    if offset <= newest or at_ms + lateness < latest then
      return false
    end
    if #recent > horizon_rows * 2 then
      recent, from = sub(recent, 3), from + 1
    end
    if repeats(key, id, recent, from, base, count, at) then
      return false
    end
    newest, latest = offset, at_ms > latest and at_ms or latest
    fresh[#fresh + 1] = sub(id, 1, 2)
    if row + R < stop then
      recent = recent .. fresh[#fresh]
    end
  end
  fresh = table.concat(fresh)

  local new, total = sub(rows, at, stop - 1), count + (stop - at) / R
  local entries = sub(front, ENTRIES + 1, mine) .. pack('<I6c2', newest, tag)
  entries = entries .. sub(front, mine + 9, marks_at)
  if total <= slots then
    local due = math.abs(now - touched) > ttl / 100 -- the clock may have been ahead
    call('SETRANGE', key, written[base + count * R], new)
    call('SETRANGE', key, written[marks_end], fresh)
    local head = pack(HEAD, R, slots, MAGIC, total, sources, due and now or touched, latest)
    call('SETRANGE', key, '0', head .. entries) -- last: what is beyond its counts does not exist
    if due then
      call('EXPIRE', key, ttl)
    end
    return true
  end

  -- No slot is left: forget, and write the log anew.
  local value, gone = call('GET', key), math.max(0, count - horizon_rows) * R
  if pending then
    local log = sub(value, base + 1, base + count * R)
    gone = forgettable(log .. new, #log + 1, user)
  end
  local log = sub(value, base + gone + 1, base + count * R) .. new
  local marks = sub(value, marks_at + 2 * gone / R + 1, marks_end) .. fresh
  call('SET', key, stored(slots_for(#log / R), sources, latest, entries, marks, log), 'EX', ttl)
  return true
end
