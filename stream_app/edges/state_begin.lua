-- How far a state is, its answers, and the value at KEYS[3], at one moment. KEYS as of state.lua.
return {
    redis.call('GET', KEYS[1]) or '0',
    redis.call('GET', KEYS[3]) or false,
    redis.call('HVALS', KEYS[2]),
}
