-- Opens a new epoch, if the caller still is the one who restores. Buckets are empty in it, and
-- have been filling for as long as nothing was granted.
--
-- KEYS  meta, who restores
-- ARGV  token of the caller, name of the epoch, for how long nothing was granted (us)
-- Gives 1 if it is open now.

if call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end
local run = string.match(call('INFO', 'server'), 'run_id:(%w+)')
local now = server_time()
call('DEL', KEYS[1], KEYS[2])
call('HSET', KEYS[1], 'epoch', ARGV[2], 'run', run, 'last', text(now), 'skew', 0,
  'opened', text(now - tonumber(ARGV[3])))
call('PEXPIRE', KEYS[1], META_TTL)
return 1
