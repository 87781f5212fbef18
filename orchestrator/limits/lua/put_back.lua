-- Takes places for a call that is under way, before the new epoch is opened.
--
-- KEYS  record of the grant, then the sorted set of each place
-- ARGV  call, lease (us), time to live of the record (ms), then for each place the scope's key
--       and the tier's

local now = server_time()
local grant = {now, 0, {}, {}}
for i = 2, #KEYS do
  call('ZADD', KEYS[i], text(now + tonumber(ARGV[2])), ARGV[1])
  call('PEXPIRE', KEYS[i], ARGV[3])
  local n = #grant[4]
  grant[4][n + 1], grant[4][n + 2], grant[4][n + 3] = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
end
call('SET', KEYS[1], cmsgpack.pack(grant), 'PX', ARGV[3])
return 1
