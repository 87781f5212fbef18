-- Replaces the estimate of a grant by the truth and gives its places back. Once: what was
-- settled stays settled.
--
-- KEYS  meta, record of the grant
-- ARGV  epoch, call, how long it is remembered (ms), then for each of 5 units the amount used,
--       or "" where the estimate stands
-- Gives 1 if something was done.

local now = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local record = call('GET', KEYS[2])
local grant = record and cmsgpack.unpack(record)
if not grant or grant[2] == 1 then return 0 end
correct_all(grant, now, function(unit, estimate)
  return tonumber(ARGV[3 + unit]) or estimate
end)
free(ARGV[2], grant, now, true)
call('SET', KEYS[2], cmsgpack.pack({grant[1], 1, {}, {}}), 'PX', ARGV[3])
return 1
