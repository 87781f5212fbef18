-- Tells tiers what they have granted in their period; what is known already stays.
--
-- KEYS  meta, scope
-- ARGV  epoch, then the scope's tiers, then for each of them what was used, or ""

local now, raw = clock(KEYS[1], ARGV[1])
if not now then return CLOSED end
local tiers, ttl, at = read_tiers(2)
for i, tier in ipairs(tiers) do
  local used = tonumber(ARGV[at + i - 1])
  local start = now
  if tier.kind ~= 'b' and tier.kind ~= 'c' then start = window_start(tier, raw) end
  if used and start then
    call('HSETNX', KEYS[2], tier.key, packed({min(used, tier.most), start, 0, 0, 0}))
  end
end
call('PEXPIRE', KEYS[2], ttl)
return 1
