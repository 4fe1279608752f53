-- Slides one chunk of a partition's users: the twin of `stream_app.core.window.accept`, on strings.
--
-- KEYS  the users' logs, then what is known to be committed of this partition, by whoever told
-- ARGV  row bytes, horizon, lateness ms, ttl s, tag of the rows' source (2 bytes),
--       committed seqs (8 bytes each), rows of each user (4 bytes each), the rows, user by user
--
-- A row begins with at_ms (8 bytes), id (8), offset + 1 (6), source tag (2), little endian. Offsets
-- are compared as numbers: 48 bits fit a double, a whole seq does not. How a log is stored says
-- redis_windows.py.
--
-- Redis 7 reads every byte of a string that it hands to Lua, a microsecond for each KB. So the usual
-- case, rows that are plainly new, looks at the front of a log alone and writes behind its rows, in
-- place (`appended`); all else takes the log as a whole (`slid`). Both answer alike.
--
-- Replies with a string about the users not all of whose rows were appended: number in the chunk
-- (4 bytes), place of each row (4 bytes each); then the numbers of those whose logs were taken as a
-- whole (4 bytes each), and these logs as the rows see them. Logs of all others are to be read after.

local known_key = table.remove(KEYS)
local R, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]) * tonumber(ARGV[1])
local lateness, ttl, tag = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local committed, counts, rows = ARGV[6], ARGV[7], ARGV[8]

local DUPLICATE, LATE = -1, -2
local ID, SEQ, TAG = 8, 16, 22 -- in a row
local call, pack, unpack = redis.call, struct.pack, struct.unpack
local find, sub = string.find, string.sub

local limit, sources = {}, 0 -- committed offset + 1, by tag
for at = 1, #committed, 8 do
  local offset, source = unpack('<I6c2', committed, at)
  limit[source] = offset
  sources = sources + 1
end

-- A zombie's commits are old: under newer ones its rows were forgotten, they were not lost. And where
-- several sources meet, it must not bring them back; with one the newest row of a log tells as much.
local settled = limit[tag] -- of this call's source, by whoever told
if sources > 0 then
  local known, newest, told = call('GET', known_key) or '', {}, {}
  for source, offset in pairs(limit) do
    told[source] = offset
  end
  for at = 1, #known, 8 do
    local offset, source = unpack('<I6c2', known, at)
    if limit[source] then
      told[source] = math.max(offset, told[source])
    end
  end
  for source, offset in pairs(told) do
    newest[#newest + 1] = pack('<I6c2', offset, source)
  end
  settled = told[tag]
  if sources > 1 then
    limit = told
  end
  call('SET', known_key, table.concat(newest), 'EX', ttl)
end

-- Where the first row from `begin` on starts that has `needle` at `field`. Positions count from 1.
local function find_row(log, needle, field, begin)
  local found = find(log, needle, begin, true)
  while found and (found - 1) % R ~= field do
    found = find(log, needle, found + 1, true)
  end
  return found and found - field
end

-- The newest offset known of this call's source.
local function newest_of(log)
  local newest = limit[tag] or 0
  if #log == 0 then
    return newest
  end
  local offset, source = unpack('<I6c2', log, #log - R + SEQ + 1)
  if source ~= tag then
    if not find_row(log, tag, TAG, 1) then
      return newest
    end
    local row = #log - R + 1
    repeat
      row = row - R
      offset, source = unpack('<I6c2', log, row + SEQ)
    until source == tag
  end
  return offset > newest and offset or newest
end

-- Where the rows end that came before `offset` of this call's source.
local function end_before(log, offset)
  for row = #log - R + 1, 1, -R do
    local other, source = unpack('<I6c2', log, row + SEQ)
    if source == tag and other < offset then
      return row + R
    end
  end
  return 1
end

local function is_late(log, at_ms, begin, stop)
  -- Accepted rows are not late themselves: if the last one is not after us, none makes us late.
  if begin == stop or unpack('<i8', log, stop - R) <= at_ms then
    return false
  end
  for row = begin, stop - 1, R do
    if unpack('<i8', log, row) > at_ms + lateness then
      return true
    end
  end
  return false
end

-- The place of a row that was judged before; also where it stood, if it was lost since.
local function judged(log, row)
  local found = find_row(log, sub(row, SEQ + 1, SEQ + 8), SEQ, 1)
  if found and sub(log, found + ID, found + ID + 7) ~= sub(row, ID + 1, ID + 8) then
    return nil -- another event: the topic's offsets started over
  end
  if found then
    return (found - 1) / R
  end
  local at_ms, id, offset = unpack('<i8c8I6', row)
  local stop = end_before(log, offset)
  local begin = math.max(1, stop - horizon)
  found = find_row(log, id, ID, begin)
  if not (found and found < stop) and is_late(log, at_ms, begin, stop) then
    return LATE
  end
  if not (found and found < stop) and settled and offset > settled then
    return (stop - 1) / R, stop -- accepted once, not committed, and gone: it was lost
  end
  return DUPLICATE -- or accepted once and forgotten since: it was committed long ago
end

-- Bytes at the front of `log` that need not be stored; its rows from `old` on are new.
local done = {} -- by tag: the user for whom it is settled
local function forgettable(log, old, user)
  if #log <= horizon then
    return 0
  end
  local first = old
  local open = sources
  if sources > 1 then
    for source in pairs(limit) do
      if source ~= tag and not find_row(log, source, TAG, 1) then
        open = open - 1
      end
    end
  end
  local row = old
  while open > 0 and row > 1 do
    row = row - R
    local offset, source = unpack('<I6c2', log, row + SEQ)
    local most = limit[source]
    if most and offset > most then
      first = row
    elseif most and done[source] ~= user then
      done[source] = user
      open = open - 1
    end
  end
  return math.max(0, first - 1 - horizon)
end

-- ---- how a log is stored -----------------------------------------------------------------------

-- Row bytes, slots, rows, MAGIC, sources, when its end was put off, latest at_ms.
local MAGIC, HEAD = '\1L', '<I2I2I2c2I2I4i8'
local ENTRIES = 22 -- bytes before the newest offset + 1 and tag of each source, 8 bytes each
local SPARE = 8 -- slots beyond the horizon: so many rows are forgotten at once
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
  local bytes, slots, count, _, sources = unpack(HEAD, value)
  if bytes ~= R then
    return redis.error_reply('WINDOWROW the log of a user has rows of ' .. bytes .. ' bytes')
  end
  local base = base_of(sources, slots)
  return sub(value, base + 1, base + count * R)
end

-- `head` without the counts, `marks` of the rows.
local function stored(slots, sources, latest, entries, marks, log)
  local count = #log / R
  local head = pack(HEAD, R, slots, count, MAGIC, sources, now, latest)
  local filling = base_of(sources, slots) - #head - #entries - #marks
  local rest = string.rep('\0', (slots - count) * R)
  return head .. entries .. marks .. string.rep('\0', filling) .. log .. rest
end

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

-- ---- rows that are plainly new -----------------------------------------------------------------

local FRONT = written[ENTRIES + 8 + 2 * (horizon_rows + SPARE) - 1] -- of a log of one source

local function has(marks, mark)
  local found = find(marks, mark, 1, true)
  while found and found % 2 == 0 do
    found = find(marks, mark, found + 1, true)
  end
  return found
end

-- Appends a user's rows from `at` to `stop`. False if one may be a duplicate, late, or was judged
-- before: then nothing was written.
local function appended(key, user, at, stop)
  local front = call('GETRANGE', key, '0', FRONT)
  if sub(front, 7, 8) ~= MAGIC then
    return false
  end
  local bytes, slots, count, _, sources, touched, latest = unpack(HEAD, front)
  local marks_at = ENTRIES + 8 * sources
  local marks_end = marks_at + 2 * count
  if bytes ~= R then
    return false
  elseif #front < marks_end then
    front = call('GETRANGE', key, '0', written[marks_end - 1])
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

  local marks, fresh = sub(front, marks_at + 1, marks_end), ''
  for row = at, stop - 1, R do
    local at_ms, mark, _, offset = unpack('<i8c2c6I6', rows, row)
    if offset <= newest or at_ms + lateness < latest or has(marks, mark) or has(fresh, mark) then
      return false
    end
    newest, latest = offset, at_ms > latest and at_ms or latest
    fresh = fresh .. mark
  end

  local new, total = sub(rows, at, stop - 1), count + (stop - at) / R
  local entries = sub(front, ENTRIES + 1, mine) .. pack('<I6c2', newest, tag)
  entries = entries .. sub(front, mine + 9, marks_at)
  local base = base_of(sources, slots)
  if total <= slots then
    local due = now - touched > ttl / 100
    call('SETRANGE', key, written[base + count * R], new)
    call('SETRANGE', key, written[marks_end], fresh)
    local head = pack(HEAD, R, slots, total, MAGIC, sources, due and now or touched, latest)
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
  marks = sub(marks, 2 * gone / R + 1) .. fresh
  call('SET', key, stored(slots_for(#log / R), sources, latest, entries, marks, log), 'EX', ttl)
  return true
end

-- ---- all others --------------------------------------------------------------------------------

-- A user's log as the rows from `at` to `stop` see it, and their places unless all were appended.
local function slid(key, user, at, stop)
  local value = call('GET', key) or ''
  local log = unpacked(value)
  if type(log) == 'table' then
    return log
  end
  local old = #log + 1
  local newest, places, mended = newest_of(log), nil, false

  while at < stop and unpack('<I6', rows, at + SEQ) <= newest do
    places = places or {}
    local row = sub(rows, at, at + R - 1)
    local place, lost = judged(log, row)
    if not place then
      return redis.error_reply('STARTEDOVER offsets of a topic started over')
    end
    if lost then
      log = sub(log, 1, lost - 1) .. row .. sub(log, lost)
      old, mended = old + R, true
    end
    places[#places + 1] = place
    at = at + R
  end

  local tail = old -- in `log`: accepted rows before it, rows to judge after it
  if at < stop then
    log = log .. sub(rows, at, stop - 1)
    while at < stop do
      local at_ms, id = unpack('<i8c8', rows, at)
      local begin = tail > horizon and tail - horizon or 1
      local place
      if find_row(log, id, ID, begin) < tail then
        place = DUPLICATE
      elseif is_late(log, at_ms, begin, tail) then
        place = LATE
      end
      if place then
        if not places then
          places = {}
          for accepted = old, tail - 1, R do
            places[#places + 1] = (accepted - 1) / R
          end
        end
        places[#places + 1] = place
        log = sub(log, 1, tail - 1) .. sub(log, tail + R)
      else
        if places then
          places[#places + 1] = (tail - 1) / R
        end
        tail = tail + R
      end
      at = at + R
    end
  end

  local gone = forgettable(log, old, user)
  if tail > old or mended or gone > 0 then
    call('SET', key, packed(gone > 0 and sub(log, gone + 1) or log), 'EX', ttl)
  end
  return log, places
end

local odd, whole, logs, at = {}, {}, {}, 1
for user, key in ipairs(KEYS) do
  local stop = at + unpack('<I4', counts, 4 * user - 3) * R
  if not appended(key, user, at, stop) then
    local log, places = slid(key, user, at, stop)
    if type(log) == 'table' then
      return log -- an error
    end
    whole[#whole + 1] = pack('<I4', user - 1)
    logs[#logs + 1] = log
    if places then
      odd[#odd + 1] = pack('<I4', user - 1)
      for _, place in ipairs(places) do
        odd[#odd + 1] = pack('<i4', place)
      end
    end
  end
  at = stop
end
table.insert(logs, 1, table.concat(whole))
table.insert(logs, 1, table.concat(odd))
return logs
