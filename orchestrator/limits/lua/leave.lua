-- Has waiters leave the line that they stand in: they will not come back.
--
-- KEYS  meta, for each waiter where its line is noted
-- ARGV  epoch, the waiters

local now = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
for i = 2, #KEYS do
  local scope = call('GET', KEYS[i])
  if scope then
    forget(scope, ARGV[i])
    call('DEL', KEYS[i])
  end
end
return 1
