-- How rows are judged by a log: the first part of the script that windows.lua tells of.

local known_key = table.remove(KEYS)
local R, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]) * tonumber(ARGV[1])
local lateness, ttl, tag = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local committed, counts, rows, marks = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local WIDE = tonumber(ARGV[10]) -- bytes of a row as it was stored once, whole

local DUPLICATE, LATE = -1, -2
local ID, SEQ, TAG = 6, 12, 18 -- in a row
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

-- The same for an id, by its mark (the first two bytes) and the rest; `theirs` are the log's marks.
local function find_id(log, theirs, mark, id, begin)
  local row = find_row(log, id, ID, begin)
  while row do
    local at = 2 * (row - 1) / R + 1
    if sub(theirs, at, at + 1) == mark then
      return row
    end
    row = find_row(log, id, ID, row + R)
  end
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
  if begin == stop or unpack('<i6', log, stop - R) <= at_ms then
    return false
  end
  for row = begin, stop - 1, R do
    if unpack('<i6', log, row) > at_ms + lateness then
      return true
    end
  end
  return false
end

-- The place of a row that was judged before; also where it stood, if it was lost since.
local function judged(log, theirs, row, mark)
  local at_ms, id, offset = unpack('<i6c6I6', row)
  local found = find_row(log, sub(row, SEQ + 1, SEQ + 8), SEQ, 1)
  if found then
    local place = (found - 1) / R
    local other = sub(theirs, 2 * place + 1, 2 * place + 2)
    if other ~= mark or sub(log, found + ID, found + ID + 5) ~= id then
      return nil -- another event: the topic's offsets started over
    end
    return place
  end
  local stop = end_before(log, offset)
  local begin = math.max(1, stop - horizon)
  found = find_id(log, theirs, mark, id, begin)
  if not (found and found < stop) and is_late(log, at_ms, begin, stop) then
    return LATE
  end
  if not (found and found < stop) and settled and offset > settled then
    return (stop - 1) / R, stop -- accepted once, not committed, and gone: it was lost
  end
  return DUPLICATE -- or accepted once and forgotten since: it was committed long ago
end

-- Bytes at the front of `log` that need not be stored, if it gets `total` with the new rows that are
-- in it from `old` on, or are to be.
local done = {} -- by tag: the user for whom it is settled
local function forgettable(log, old, total, user)
  if total <= horizon then
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
