-- Reads a table of accounts: KEYS the table. Replies with its bytes.
return redis.call('GET', KEYS[1]) or ''
