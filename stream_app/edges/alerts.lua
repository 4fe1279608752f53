-- Steps anomalies in order: the twin of `stream_app.core.alerting.step`, on packed watches.
--
-- KEYS  the watches
-- ARGV  cool-down ms, half-life ms, alerts kept, ttl s, the anomalies:
--       number of the watch (4 bytes, from 1), at_ms (8), offset + 1 (6) and source tag (2)
--
-- A watch is newest_ms (8), mass (8), suppressed (4), sources (2), the newest offset + 1 (6) and the
-- tag (2) of each source, then of each alert kept, oldest first: offset + 1 and tag (8), at_ms (8),
-- suppressed (4). Little endian. Offsets are compared as numbers, since a whole seq does not fit a
-- double.
--
-- Replies with one string, for each anomaly: whether it alerts (1), suppressed (4), mass (8).

local cooldown, half_life = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept, ttl, anomalies = tonumber(ARGV[3]), ARGV[4], ARGV[5]

local HEAD, SEQ, FIRED = 22, 8, 20
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub

local function read(key)
  local value = call('GET', key)
  if not value then
    return { newest_ms = 0, mass = 0, suppressed = 0, newest = '', fired = '' }
  end
  local newest_ms, mass, suppressed, sources = unpack('<i8dI4I2', value)
  local split = HEAD + sources * SEQ
  return {
    newest_ms = newest_ms,
    mass = mass,
    suppressed = suppressed,
    newest = sub(value, HEAD + 1, split),
    fired = sub(value, split + 1),
  }
end

local function write(key, watch)
  local head =
    pack('<i8dI4I2', watch.newest_ms, watch.mass, watch.suppressed, #watch.newest / SEQ)
  call('SET', key, head .. watch.newest .. watch.fired, 'EX', ttl)
end

-- Where in `watch.newest` the source is, and its newest offset + 1.
local function newest_of(watch, tag)
  for at = 1, #watch.newest, SEQ do
    local offset, other = unpack('<I6c2', watch.newest, at)
    if other == tag then
      return at, offset
    end
  end
  return #watch.newest + 1, 0
end

-- Alerted, suppressed and mass of an anomaly seen before.
local function seen(watch, seq)
  for at = 1, #watch.fired, FIRED do
    if sub(watch.fired, at, at + SEQ - 1) == seq then
      return 1, unpack('<I4', watch.fired, at + 16), watch.mass
    end
  end
  return 0, 0, watch.mass
end

local function step(watch, at_ms, seq)
  local offset, tag = unpack('<I6c2', seq)
  local at, newest = newest_of(watch, tag)
  if offset <= newest then
    return seen(watch, seq)
  end
  local fade = 2 ^ (-math.max(at_ms - watch.newest_ms, 0) / half_life)
  watch.mass = watch.mass * fade + 1
  watch.newest_ms = math.max(watch.newest_ms, at_ms)
  watch.newest = sub(watch.newest, 1, at - 1) .. seq .. sub(watch.newest, at + SEQ)
  watch.changed = true
  if #watch.fired > 0 and at_ms - unpack('<i8', watch.fired, #watch.fired - 11) < cooldown then
    watch.suppressed = watch.suppressed + 1
    return 0, watch.suppressed, watch.mass
  end
  local suppressed = watch.suppressed
  watch.suppressed = 0
  watch.fired = sub(watch.fired .. seq .. pack('<i8I4', at_ms, suppressed), -kept * FIRED)
  return 1, suppressed, watch.mass
end

local watches, verdicts = {}, {}
for at = 1, #anomalies, 20 do
  local number, at_ms, seq = unpack('<I4i8c8', anomalies, at)
  watches[number] = watches[number] or read(KEYS[number])
  verdicts[#verdicts + 1] = pack('<BI4d', step(watches[number], at_ms, seq))
end
for number, watch in ipairs(watches) do
  if watch.changed then
    write(KEYS[number], watch)
  end
end
return table.concat(verdicts)
