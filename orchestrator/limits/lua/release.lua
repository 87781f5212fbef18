-- Gives a grant back whole, as if it had not been.
--
-- KEYS  meta, record of the grant
-- ARGV  epoch, call
-- Gives 1 if there was one.

local now = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local record = call('GET', KEYS[2])
local grant = record and cmsgpack.unpack(record)
if not grant or grant[2] == 1 then return 0 end
correct_all(grant, now, function() return 0 end)
free(ARGV[2], grant, now, false)
call('DEL', KEYS[2])
return 1
