-- Tells tiers what they have granted in their period; what is known already stays.
--
-- KEYS  meta, scope
-- ARGV  epoch, the scope, then for each of its tiers what was used, or ""

local now, raw = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local scope = read_scopes(ARGV[2])[1]
for i, tier in ipairs(scope.tiers) do
  local used = tonumber(ARGV[i + 2])
  local start = now
  if tier.kind ~= 'b' and tier.kind ~= 'c' then start = window_start(tier, raw) end
  if used and start then
    -- A bucket overflows; what a window granted is remembered, for a limit that is raised.
    if tier.kind == 'b' then used = min(used, tier.most) end
    call('HSETNX', KEYS[2], tier.key, packed({used, start, 0, 0, 0}))
  end
end
call('PEXPIRE', KEYS[2], scope.ttl)
return 1
