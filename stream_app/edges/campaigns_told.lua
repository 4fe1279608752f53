-- Notes what was told of campaigns, until they are closed.
--
-- KEYS  open campaigns by their last event, what was told of them last
-- ARGV  ttl s, then of each campaign: what it is known by, its events, at_ms of the last, what is told
--
-- What is told begins with the events (4 bytes): of two, the one with more of them stays.

local OPEN, TOLD, ttl = KEYS[1], KEYS[2], ARGV[1]
local call = redis.call

for at = 2, #ARGV, 4 do
  local campaign, events, last_ms = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local was = call('HGET', TOLD, campaign)
  if not was or struct.unpack('<I4', was) < events then
    call('HSET', TOLD, campaign, struct.pack('<I4', events) .. ARGV[at + 3])
  end
  local before = call('ZSCORE', OPEN, campaign)
  if not before or tonumber(before) < last_ms then
    call('ZADD', OPEN, last_ms, campaign)
  end
end
call('EXPIRE', OPEN, ttl)
call('EXPIRE', TOLD, ttl)
