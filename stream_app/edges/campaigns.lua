-- Joins anomalous events to the logs of their things, and closes campaigns that were quiet: the twin
-- of `stream_app.core.campaign.CampaignBook`, but for what a log tells.
--
-- KEYS  open campaigns by their last event, what was told of them last, those closed lately, then
--       the logs of things
-- ARGV  quiet ms, span ms, rows kept, closings kept, ttl s, then of each event: id (8 bytes), at_ms,
--       numbers of its logs (from 1, with commas between), what is kept of it
--
-- A row is id (8), id of its run's first (8), number in the run (4), ms when the run began (8), at_ms
-- (8), what is kept. A campaign is known by the key of its log and its run. Little endian.
--
-- Replies with the logs that tell something, the place of each event in each of its logs (from 0) if
-- one of them does, and what was told last of the campaigns that each event closed, with their last
-- ms before it (8).

local quiet, span, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local closings, ttl = tonumber(ARGV[4]), ARGV[5]
local OPEN, TOLD, CLOSED, FIRST = KEYS[1], KEYS[2], KEYS[3], 3
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub

local logs, grown = {}, {}
for number = 1, #KEYS - FIRST do
  logs[number] = call('LRANGE', KEYS[FIRST + number], 0, -1)
end

local function place_of(log, id)
  for at, row in ipairs(log) do
    if sub(row, 1, 8) == id then
      return at
    end
  end
end

-- The head of the row with which the log goes on.
local function link(log, id, at_ms)
  local newest = {}
  for at = #log, 1, -1 do
    local run, nth, began, other = unpack('<c8I4i8i8', log[at], 9)
    newest[run] = newest[run] or nth
    if math.abs(at_ms - other) <= quiet and math.abs(at_ms - began) <= span then
      return id .. run .. pack('<I4i8i8', newest[run] + 1, began, at_ms)
    end
  end
  return id .. id .. pack('<I4i8i8', 1, at_ms, at_ms)
end

local function append(number, id, at_ms, body)
  local log = logs[number]
  local row = link(log, id, at_ms) .. body
  log[#log + 1] = row
  grown[number] = true
  local campaign = KEYS[FIRST + number] .. sub(row, 9, 16)
  local last = call('ZSCORE', OPEN, campaign)
  if last and tonumber(last) < at_ms then
    call('ZADD', OPEN, at_ms, campaign)
  end
end

-- Whether the n-th event of a run may tell; see `is_told`.
local function may_tell(row)
  local nth = unpack('<I4', row, 17)
  local _, digits = math.frexp(nth)
  return nth >= 3 and nth % 2 ^ math.max(0, digits - 3) == 0
end

local places, again, wanted = {}, false, {}
for at = 6, #ARGV, 4 do
  local id, at_ms, own, numbers, tells = ARGV[at], tonumber(ARGV[at + 1]), {}, {}, false
  for text in string.gmatch(ARGV[at + 2], '%d+') do
    local number = tonumber(text)
    local place = place_of(logs[number], id)
    again = again or place ~= nil
    if not place then
      append(number, id, at_ms, ARGV[at + 3])
      place = #logs[number]
    end
    own[#own + 1] = place - 1
    numbers[#numbers + 1] = number
    tells = tells or may_tell(logs[number][place])
  end
  for _, number in ipairs(numbers) do
    wanted[number] = wanted[number] or tells
  end
  places[#places + 1] = tells and own or {}
end
for number in pairs(grown) do
  local key, log = KEYS[FIRST + number], logs[number]
  local old = call('LLEN', key)
  for at = old + 1, #log do
    call('RPUSH', key, log[at])
  end
  call('LTRIM', key, -kept, -1)
  call('EXPIRE', key, ttl)
end

local over = {} -- by event: what it closed
local function note(id, told)
  over[id] = over[id] or {}
  table.insert(over[id], told)
end
if again then
  for _, closed in ipairs(call('LRANGE', CLOSED, 0, -1)) do
    note(sub(closed, 1, 8), sub(closed, 9))
  end
end
for at = 6, #ARGV, 4 do
  local id, until_ms = ARGV[at], tonumber(ARGV[at + 1]) - quiet
  local quiet_ones = call('ZRANGEBYSCORE', OPEN, '-inf', '(' .. until_ms, 'WITHSCORES')
  for which = 1, #quiet_ones, 2 do
    local told = pack('<i8', quiet_ones[which + 1]) .. call('HGET', TOLD, quiet_ones[which])
    note(id, told)
    call('RPUSH', CLOSED, id .. told)
    call('LTRIM', CLOSED, -closings, -1)
    call('EXPIRE', CLOSED, ttl)
    call('ZREM', OPEN, quiet_ones[which])
    call('HDEL', TOLD, quiet_ones[which])
  end
end

local closed = {}
for at = 6, #ARGV, 4 do
  closed[#closed + 1] = over[ARGV[at]] or {}
end
for number in ipairs(logs) do
  logs[number] = wanted[number] and logs[number] or {}
end
return { logs, places, closed }
