-- Keeps the places of calls that are under way.
--
-- KEYS  meta, then the record of each call
-- ARGV  epoch, lease (us), time to live of the records (ms), then each call
-- Gives how many of them are known.

local now = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local known = 0
for i = 2, #KEYS do
  local record = call('GET', KEYS[i])
  local grant = record and cmsgpack.unpack(record)
  if grant and grant[2] == 0 then
    renew(ARGV[i + 2], grant, now, tonumber(ARGV[2]), ARGV[3])
    call('PEXPIRE', KEYS[i], ARGV[3])
    known = known + 1
  end
end
return known
