-- Appends to a table of accounts: KEYS the table; ARGV ttl s, what is appended.
-- Replies with the table's bytes before it.
local bytes = redis.call('APPEND', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return bytes - #ARGV[2]
