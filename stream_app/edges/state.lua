-- One step of a state: all of it, or nothing unless the state is where the step begins.
-- KEYS: the offset it is at, the hash of answers, the values' keys.
-- ARGV: begin, end, committed (offsets of 20 digits; no begin: a state of nothing), ttl in s, answer, the values.
local at = redis.call('GET', KEYS[1]) or string.rep('0', 20)
if at ~= ARGV[1] then return 0 end
local ttl = ARGV[4]
for number = 3, #KEYS do
    redis.call('SET', KEYS[number], ARGV[number + 3], 'EX', ttl)
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ttl)
for _, last in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(last) <= tonumber(ARGV[3]) then redis.call('HDEL', KEYS[2], last) end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[5])
redis.call('EXPIRE', KEYS[2], ttl)
return 1
