-- Joins visits to the crowds of things: the twin of `stream_app.core.crowd.join`, on strings.
--
-- KEYS  the things' crowds
-- ARGV  visits kept of the open and of the closed buckets, ttl s, visits of each thing (4 bytes
--       each, little endian), the visits, thing by thing
--
-- A visit is bucket (4), user (3), marks (1), big endian. A crowd is visits, in no promised order.
-- Bucket and user together are 53 bits until the year 5000, so that they fit a double.
--
-- Replies with the crowds as they were before.

local kept, ttl, counts, visits = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local call, pack, unpack = redis.call, struct.pack, struct.unpack
local USERS = 2 ^ 24

-- Adds packed visits: marks by bucket and user, once each.
local function add(marks, order, packed, begin, stop)
  for at = begin, stop, 8 do
    local bucket, user, mark = unpack('>I4I3B', packed, at)
    local key = bucket * USERS + user
    if not marks[key] then
      order[#order + 1] = key
    end
    marks[key] = bit.bor(marks[key] or 0, mark)
  end
end

local function joined(marks, order)
  table.sort(order, function(one, other) return one > other end)
  local newest, open, closed, seen, found = math.floor(order[1] / USERS), 0, 0, {}, {}
  for _, key in ipairs(order) do -- the newest first
    local bucket = math.floor(key / USERS)
    local user, is_kept = key - bucket * USERS, false
    if bucket == newest then
      open = open + 1
      is_kept = open <= kept
    elseif not seen[user] and closed < kept then
      seen[user] = true
      closed = closed + 1
      is_kept = true
    end
    if is_kept then
      found[#found + 1] = pack('>I4I3B', bucket, user, marks[key])
    end
  end
  return table.concat(found)
end

local reply, at = {}, 1
for thing, key in ipairs(KEYS) do
  local old = call('GET', key) or ''
  local stop = at + unpack('<I4', counts, 4 * thing - 3) * 8
  local marks, order = {}, {}
  add(marks, order, old, 1, #old)
  add(marks, order, visits, at, stop - 1)
  call('SET', key, joined(marks, order), 'EX', ttl)
  reply[thing], at = old, stop
end
return reply
