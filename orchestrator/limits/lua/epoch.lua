-- Tells which epoch it is. A server that was emptied, or that came back with what it knew some
-- time ago, has none: then one caller at a time is asked to put back what is under way.
--
-- KEYS  meta, who restores
-- ARGV  token of the caller, grace (us), patience (us)
-- Gives {1, epoch}; {0, wait (us)} while another restores, or until calls that were let through
--       just before have been recorded; {2, 0} if the caller is to restore.

local run = string.match(call('INFO', 'server'), 'run_id:(%w+)')
local known = call('HMGET', KEYS[1], 'epoch', 'run')
if known[1] and known[2] == run then return {1, known[1]} end
call('HDEL', KEYS[1], 'epoch')

local now, grace, patience = server_time(), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = call('HMGET', KEYS[2], 'run', 'since', 'token', 'until')
if state[1] ~= run then
  call('DEL', KEYS[2])
  call('HSET', KEYS[2], 'run', run, 'since', text(now))
  state = {run, text(now), false, false}
end
local ttl = ceil((grace + patience) / 1000) + 60000
call('PEXPIRE', KEYS[2], ttl)
local ready = tonumber(state[2]) + grace
if now < ready and now > ready - 2 * grace then return {0, ready - now} end
local busy = state[3] and state[3] ~= ARGV[1] and tonumber(state[4]) - now or 0
if busy > 0 and busy <= patience then return {0, min(busy, grace)} end
call('HSET', KEYS[2], 'token', ARGV[1], 'until', text(now + patience))
return {2, 0}
