-- Joins visits to the crowds of things: the twin of `stream_app.core.crowd.join`, on strings.
--
-- KEYS  the things' crowds
-- ARGV  visits kept of the open and of the closed buckets, ttl s, visits of each thing (4 bytes
--       each, little endian), the visits, thing by thing
--
-- A visit is bucket (4), user (3), marks (1), big endian. A crowd is visits, the newest first, and so
-- are those that come of a thing. Bucket and user together are 53 bits until the year 5000, so that
-- they fit a double.

local kept, ttl, counts, visits = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub
local USERS = 2 ^ 24

-- Two runs of packed visits, from `at` and `other` on, as one crowd.
local function joined(old, new, other, stop)
  local at, found, seen = 1, {}, {}
  local newest, open, closed, last, marks = nil, 0, 0, nil, 0
  local bucket, user, mark, new_bucket, new_user, new_mark
  if at < #old then
    bucket, user, mark = unpack('>I4I3B', old, at)
  end
  if other < stop then
    new_bucket, new_user, new_mark = unpack('>I4I3B', new, other)
  end
  while bucket or new_bucket do
    local b, u, m, visit
    local is_old = bucket
      and (not new_bucket or bucket > new_bucket or (bucket == new_bucket and user >= new_user))
    if is_old then
      b, u, m, visit = bucket, user, mark, sub(old, at, at + 7)
      at = at + 8
      bucket = nil
      if at < #old then
        bucket, user, mark = unpack('>I4I3B', old, at)
      end
    else
      b, u, m, visit = new_bucket, new_user, new_mark, sub(new, other, other + 7)
      other = other + 8
      new_bucket = nil
      if other < stop then
        new_bucket, new_user, new_mark = unpack('>I4I3B', new, other)
      end
    end
    newest = newest or b
    local key = b * USERS + u
    if key == last then -- the same visit: it has the marks of both
      if m ~= marks and seen[u] == key then
        marks = bit.bor(marks, m)
        found[#found] = pack('>I4I3B', b, u, marks)
      end
    elseif b == newest then
      open = open + 1
      if open <= kept then
        found[#found + 1], seen[u] = visit, key
      end
      last, marks = key, m
    else
      if closed == kept and key ~= last then
        break
      end
      -- A user of the newest bucket may have one visit before it.
      if not seen[u] or seen[u] >= newest * USERS then
        closed = closed + 1
        found[#found + 1], seen[u] = visit, key
      end
      last, marks = key, m
    end
  end
  return table.concat(found)
end

-- The same for one visit, which is not older than the newest one of `old`: as nearly all are.
-- Whole runs of visits are moved as they are.
local function with_one(old, visit)
  local bucket, user, marks = unpack('>I4I3B', visit)
  local newest = unpack('>I4', old)
  local open = sub(old, 1, 4)
  local stop = 9 -- where the newest bucket of `old` ends
  while sub(old, stop, stop + 3) == open do
    stop = stop + 8
  end
  if bucket > newest then -- what was open is closed: of its users one visit remains
    local closed = old
    for at = 1, stop - 8, 8 do
      local name = sub(old, at + 4, at + 6)
      local found = string.find(closed, name, stop, true)
      while found and found % 8 ~= 5 do
        found = string.find(closed, name, found + 1, true)
      end
      if found then
        closed = sub(closed, 1, found - 5) .. sub(closed, found + 4)
      end
    end
    return visit .. sub(closed, 1, 8 * kept)
  end
  local at = 1
  while at < stop do
    local other, others = unpack('>I3B', old, at + 4)
    if other == user then
      local both = pack('>I4I3B', bucket, user, bit.bor(marks, others))
      return sub(old, 1, at - 1) .. both .. sub(old, at + 8)
    elseif other < user then
      break
    end
    at = at + 8
  end
  local open_end = math.min(stop - 1, 8 * (kept - 1)) -- of those that stay beside it
  if at > 8 * kept then
    return old
  end
  return sub(old, 1, at - 1) .. visit .. sub(old, at, open_end) .. sub(old, stop)
end

local at = 1
for thing, key in ipairs(KEYS) do
  local old = call('GET', key) or ''
  local stop = at + unpack('<I4', counts, 4 * thing - 3) * 8
  local new
  if stop - at > 8 or old == '' or sub(visits, at, at + 3) < sub(old, 1, 4) then
    new = joined(old, visits, at, stop)
  else
    new = with_one(old, sub(visits, at, at + 7))
  end
  call('SET', key, new, 'EX', ttl)
  at = stop
end
return 1
