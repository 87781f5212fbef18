-- Lets nobody through a scope for a time; its buckets are empty at the end of it, so that those
-- who waited begin gently.
--
-- KEYS  meta, scope
-- ARGV  epoch, for how long (us), the scope

local now, raw, opened = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local lasts, key = tonumber(ARGV[2]), KEYS[2]
local scope = read_scopes(ARGV[3])[1]
local ends = now + lasts
local ends_at = max(ends, tonumber(call('HGET', key, 'pause') or 0))
call('HSET', key, 'pause', text(ends_at))
for _, tier in ipairs(scope.tiers) do
  local level = tier.kind == 'b' and level_of(tier, call('HGET', key, tier.key), raw, opened)
  if level and level[2] < ends then
    note_low(level, level_now(tier, level, now))
    level[1], level[2] = max(tier.capacity, level_now(tier, level, ends)), ends
    call('HSET', key, tier.key, packed(level))
  end
end
call('PEXPIRE', key, max(scope.ttl, ceil((ends_at - now) / 1000) + 60000))
return 1
