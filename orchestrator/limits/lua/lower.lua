-- The provider says how much is left: more than that is not let through.
--
-- KEYS  meta, scope
-- ARGV  epoch, the scope, then pairs of a unit and what is left of it

local now, raw, opened = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local key = KEYS[2]
local scope = read_scopes(ARGV[2])[1]
for i = 3, #ARGV, 2 do
  local unit, left = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  for _, tier in ipairs(scope.tiers) do
    local level = tier.unit == unit and tier.kind ~= 'c'
      and level_of(tier, call('HGET', key, tier.key), raw, opened)
    if level then
      local least = max(0, tier.most - left)
      if tier.kind == 'b' then
        level[1] = level[1] + max(0, least - level_now(tier, level, now))
      else
        level[1] = max(level[1], least)
      end
      call('HSET', key, tier.key, packed(level))
    end
  end
end
call('PEXPIRE', key, scope.ttl, 'GT')
return 1
