-- Slides one chunk of a partition's users: the twin of `stream_app.core.window.accept`, on strings.
--
-- KEYS  the users' logs, then what is known to be committed of this partition, by whoever told
-- ARGV  row bytes, horizon, lateness ms, ttl s, tag of the rows' source (2 bytes),
--       committed seqs (8 bytes each), rows of each user (4 bytes each), the rows, user by user,
--       their marks (2 bytes each), bytes of a row as it was stored once, whole
--
-- A row begins with at_ms (6 bytes), the id but for its first two bytes, which are the mark (6),
-- offset + 1 (6), source tag (2), little endian. Offsets are compared as numbers: 48 bits fit a
-- double, a whole seq does not. How a log is stored says redis_windows.py.
--
-- Redis 7 reads every byte of a string that it hands to Lua, a microsecond for each KB. So the usual
-- case, rows that are plainly new, looks at the front of a log alone and writes behind its rows, in
-- place (`appended`); all else takes the log as a whole (`slid`). Both answer alike. Before this
-- file come windows_judged.lua and windows_stored.lua.
--
-- Replies with a string about the users not all of whose rows were appended: number in the chunk
-- (4 bytes), place of each row (4 bytes each); then the numbers of those whose logs were taken as a
-- whole (4 bytes each), and these logs as the rows see them. Logs of all others are to be read after.

-- A user's log as the rows from `at` to `stop` see it, and their places unless all were appended.
local function slid(key, user, at, stop)
  local value = call('GET', key) or ''
  local log, theirs = unpacked(value)
  if type(log) == 'table' then
    return log
  end
  local old = #log + 1
  local newest, places, mended = newest_of(log), nil, false

  while at < stop and unpack('<I6', rows, at + SEQ) <= newest do
    places = places or {}
    local row = sub(rows, at, at + R - 1)
    local mark_at = 2 * (at - 1) / R + 1
    local mark = sub(marks, mark_at, mark_at + 1)
    local place, lost = judged(log, theirs, row, mark)
    if not place then
      return redis.error_reply('STARTEDOVER offsets of a topic started over')
    end
    if lost then
      log = sub(log, 1, lost - 1) .. row .. sub(log, lost)
      theirs = sub(theirs, 1, 2 * place) .. mark .. sub(theirs, 2 * place + 1)
      old, mended = old + R, true
    end
    places[#places + 1] = place
    at = at + R
  end

  local tail = old -- in `log`: accepted rows before it, rows to judge after it
  if at < stop then
    log = log .. sub(rows, at, stop - 1)
    theirs = theirs .. sub(marks, 2 * (at - 1) / R + 1, 2 * (stop - 1) / R)
    while at < stop do
      local at_ms, id = unpack('<i6c6', rows, at)
      local mark_at = 2 * (at - 1) / R + 1
      local begin = tail > horizon and tail - horizon or 1
      local place
      if find_id(log, theirs, sub(marks, mark_at, mark_at + 1), id, begin) < tail then
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
        local row = (tail - 1) / R
        theirs = sub(theirs, 1, 2 * row) .. sub(theirs, 2 * row + 3)
      else
        if places then
          places[#places + 1] = (tail - 1) / R
        end
        tail = tail + R
      end
      at = at + R
    end
  end

  local gone = forgettable(log, old, #log, user)
  if tail > old or mended or gone > 0 then
    call('SET', key, packed(sub(log, gone + 1), sub(theirs, 2 * gone / R + 1)), 'EX', ttl)
  end
  return stored(#log / R, 0, 0, '', theirs, log), places
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
