-- Lets a call through all of its limits, or tells which one refuses it and when to ask again.
--
-- KEYS  meta, record of the grant, where the waiter's line is noted, a flag for each budget, the
--       key of each scope
-- ARGV  epoch, call, waiter, tenant, weight, lease (us), time to live of the record (ms), hold
--       (nano-USD), amount of each of 5 units, number of budgets, the scopes as JSON
-- Gives {status, wait (us), scope, tier}: 1 granted; 0 denied by a scope's tier, by its pause
--       (tier 0) or by a budget's flag (scope 0, tier its number); -1 never; -2 not open;
--       -3 followed by the positions of tiers to seed; -4 the calendar days are outdated.

local id, waiter, tenant, weight = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local lease, record_ttl = tonumber(ARGV[6]), ARGV[7]
local now, raw, opened = clock(KEYS[1], ARGV[1])
if not now then return {CLOSED} end

local record = call('GET', KEYS[2])
if record then
  -- Asked again because the answer was lost: the same grant.
  renew(id, cmsgpack.unpack(record), now, lease, record_ttl)
  call('PEXPIRE', KEYS[2], record_ttl)
  return {1, 0, 0, 0}
end

local hold, budgets = tonumber(ARGV[8]), tonumber(ARGV[14])
for b = 1, budgets do
  local left = call('GET', KEYS[3 + b])
  if left and hold > tonumber(left) then
    return {0, max(1, call('PTTL', KEYS[3 + b])) * 1000, 0, b}
  end
end

local amounts = {}
for u = 1, 5 do amounts[u] = tonumber(ARGV[8 + u]) end

local scopes, unseeded = read_scopes(ARGV[15]), {-3}
for s, scope in ipairs(scopes) do
  scope.key = KEYS[3 + budgets + s]
  local fields = {'pause', 'alive', 'virtual', 'comers', 'kept'}
  for _, tier in ipairs(scope.tiers) do fields[#fields + 1] = tier.key end
  local known = call('HMGET', scope.key, unpack(fields))
  scope.pause, scope.alive = tonumber(known[1] or 0), tonumber(known[2] or 0)
  scope.virtual, scope.comers = tonumber(known[3] or 0), tonumber(known[4] or 0)
  scope.kept = tonumber(known[5] or 0)
  for t, tier in ipairs(scope.tiers) do
    tier.amount = tier.unit > 0 and amounts[tier.unit] or 0
    if tier.amount > tier.most then return {-1, 0, s, t} end
    if tier.kind == 'd' and not window_start(tier, raw) then return {-4} end
    tier.level = level_of(tier, known[5 + t], raw, opened)
    if not tier.level then
      unseeded[#unseeded + 1] = s
      unseeded[#unseeded + 1] = t
    end
  end
  scopes[s] = scope
end
if #unseeded > 1 then return unseeded end

-- The line ------------------------------------------------------------------------------------

local function tidy(scope)
  local late = call(
    'ZRANGEBYSCORE', scope.key .. ':d', '-inf', '(' .. text(now), 'LIMIT', 0, TIDIED)
  for _, name in ipairs(late) do
    if call('ZREM', scope.key .. ':q', name) == 1 then
      call('ZADD', scope.key .. ':d', text(now + KEEP), name)
    else
      forget(scope.key, name)
    end
  end
end

local function fresh_place(scope)
  local finished = call('HGET', scope.key .. ':f', tenant)
  local start = floor(max(scope.virtual, tonumber(finished or 0)))
  return start + ((scope.comers + 1) % TIES) / TIES
end

-- How many are ahead, and what they have asked for of each unit: of many, as the first of them did.
local function stand(scope)
  tidy(scope)
  scope.ticket = call('HGET', scope.key .. ':t', waiter)
  scope.place = scope.ticket and struct.unpack('<d', scope.ticket) or fresh_place(scope)
  local ahead = call('ZCOUNT', scope.key .. ':q', '-inf', '(' .. text(scope.place))
  if ahead == 0 then return 0 end
  local first = call('ZRANGE', scope.key .. ':q', 0, min(ahead, LOOKED) - 1)
  local asked = {0, 0, 0, 0, 0}
  for _, ticket in ipairs(call('HMGET', scope.key .. ':t', unpack(first))) do
    local amounts_of = {struct.unpack('<ddddd', ticket, 25)}
    for u = 1, 5 do asked[u] = asked[u] + amounts_of[u] end
  end
  for u = 1, 5 do asked[u] = asked[u] * ahead / #first end
  return ahead, asked
end

local function cost_in(scope)
  local most = 1
  for _, tier in ipairs(scope.tiers) do
    if tier.kind == 'c' then
      most = max(most, USUAL_HOLD / tier.limit)
    else
      most = max(most, tier.amount * tier.period / tier.limit)
    end
  end
  return floor(most) / weight
end

local function join(scope, wait)
  local due = now + wait + LATE
  if scope.alive <= now then
    call('DEL', scope.key .. ':q', scope.key .. ':d', scope.key .. ':t', scope.key .. ':f')
    scope.virtual, scope.comers, scope.ticket = 0, 0, nil
    scope.place = fresh_place(scope)
  end
  local cost, since, whose = cost_in(scope), now, tenant
  if scope.ticket then
    local _, kept, began = struct.unpack('<ddd', scope.ticket)
    cost, since, whose = kept, began, string.sub(scope.ticket, 65)
  else
    scope.comers = scope.comers + 1
    call('HSET', scope.key .. ':f', tenant, text(floor(scope.place) + cost))
  end
  local ticket = struct.pack('<dddddddd', scope.place, cost, since, unpack(amounts)) .. whose
  call('HSET', scope.key .. ':t', waiter, ticket)
  call('ZADD', scope.key .. ':q', text(scope.place), waiter)
  call('ZADD', scope.key .. ':d', text(due), waiter)
  local alive = max(scope.alive, due + KEEP)
  local ttl = ceil((alive - now) / 1000)
  for _, part in ipairs({':q', ':d', ':t', ':f'}) do call('PEXPIRE', scope.key .. part, ttl) end
  call('HSET', scope.key, 'alive', text(alive), 'virtual', text(scope.virtual),
    'comers', text(scope.comers))
  call('PEXPIRE', scope.key, max(scope.ttl, ttl))
  call('SET', KEYS[3], scope.key, 'PX', ttl)
end

local function step_aside(scope)
  if call('ZREM', scope.key .. ':q', waiter) == 1 then
    call('ZADD', scope.key .. ':d', text(now + KEEP), waiter)
  end
end

-- Adds what the grant changes in the scope's hash to `fields`.
local function served(scope, fields)
  local place = floor(scope.place)
  if scope.ticket then
    call('HDEL', scope.key .. ':t', waiter)
    call('ZREM', scope.key .. ':q', waiter)
    call('ZREM', scope.key .. ':d', waiter)
  else
    call('HSET', scope.key .. ':f', tenant, text(place + cost_in(scope)))
    call('PEXPIRE', scope.key .. ':f', ceil((scope.alive - now) / 1000))
  end
  fields[#fields + 1] = 'virtual'
  fields[#fields + 1] = text(max(scope.virtual, place))
end

-- What each tier says -------------------------------------------------------------------------

local function wait_in_bucket(tier, needed)
  local level = tier.level
  local missing = level_now(tier, level, now) + needed - tier.capacity
  if missing <= SLACK * tier.capacity then return 0 end
  return ceil(max(level[2], now) - now + missing / (tier.limit / tier.period))
end

local function wait_in_window(tier, needed)
  local level = tier.level
  if level[1] + needed <= tier.limit then return 0 end
  local left = max(0, tier.limit - level[1])
  local windows = ceil((needed - left) / tier.limit)
  return max(1, window_end(tier, level[2]) - raw + (windows - 1) * tier.period)
end

local function wait_for_place(scope, tier, ahead)
  local places = scope.key .. ':p:' .. tier.key
  call('ZREMRANGEBYSCORE', places, '-inf', text(now))
  tier.taken = call('ZCARD', places)
  local missing = ahead + 1 - (tier.limit - tier.taken)
  if missing <= 0 then return 0 end
  local usual = tier.level[1] > 0 and tier.level[1] or USUAL_HOLD
  return min(MOST_WAIT, max(LEAST_WAIT, ceil((missing - 1 + FIRST) * usual / tier.limit)))
end

local function wait_in(scope, tier, ahead, asked)
  if tier.kind == 'c' then return wait_for_place(scope, tier, ahead) end
  if tier.amount <= 0 then return 0 end
  local needed = tier.amount
  if asked then needed = needed + asked[tier.unit] end
  if tier.kind == 'b' then return wait_in_bucket(tier, needed) end
  return wait_in_window(tier, needed)
end

local longest, at_scope, at_tier = 0, 0, 0
for s, scope in ipairs(scopes) do
  local ahead, asked = 0, nil
  if scope.alive > now then ahead, asked = stand(scope) end
  local wait, because = 0, 0
  if scope.pause > now then wait = scope.pause - now + ahead * PAUSE_GAP end
  for t, tier in ipairs(scope.tiers) do
    local one = wait_in(scope, tier, ahead, asked)
    if one > wait then wait, because = one, t end
  end
  -- Its buckets are empty because of the pause, which is what people need to know.
  if scope.pause > now then because = 0 end
  if wait > longest then longest, at_scope, at_tier = wait, s, because end
end

if longest > 0 then
  for s, scope in ipairs(scopes) do
    if s ~= at_scope and scope.alive > now then step_aside(scope) end
  end
  local scope = scopes[at_scope]
  join(scope, longest)
  if at_tier > 0 then
    local tier = scope.tiers[at_tier]
    tier.level[4] = tier.level[4] + 1
    tier.level[5] = tier.level[5] + longest
    call('HSET', scope.key, tier.key, packed(tier.level))
  end
  return {0, longest, at_scope, at_tier}
end

local charges, places = {}, {}
local until_lease = text(now + lease)
for _, scope in ipairs(scopes) do
  local fields = {}
  -- So that not every call has to put off what is to be forgotten some day.
  local keeps = scope.kept < now + scope.ttl * 500
  for _, tier in ipairs(scope.tiers) do
    local level = tier.level
    if tier.kind == 'c' then
      local set, n = scope.key .. ':p:' .. tier.key, #places
      call('ZADD', set, until_lease, id)
      -- A set that became empty is gone, and its time to live with it.
      if keeps or tier.taken == 0 then call('PEXPIRE', set, scope.ttl) end
      places[n + 1], places[n + 2], places[n + 3] = set, scope.key, tier.key
    elseif tier.kind == 'b' and tier.amount > 0 then
      local before = level_now(tier, level, now)
      note_low(level, before)
      level[1], level[2] = before + tier.amount, now
      level[#level + 1] = now
      level[#level + 1] = level[1]
      if #level > 5 + 2 * MARKS then
        -- Give up the mark that differs least from the one before it.
        local smallest, gone = math.huge, nil
        for i = 8, #level, 2 do
          local gap = level[i + 1] - level[i - 1]
          if gap < smallest then smallest, gone = gap, i end
        end
        table.remove(level, gone)
        table.remove(level, gone)
      end
    elseif tier.amount > 0 then
      level[1] = level[1] + tier.amount
    end
    if tier.kind == 'c' or tier.amount > 0 then
      level[3] = level[3] + 1
      fields[#fields + 1] = tier.key
      fields[#fields + 1] = packed(level)
    end
    if tier.amount > 0 then
      local n = #charges
      charges[n + 1], charges[n + 2], charges[n + 3] = scope.key, tier.key, tier.kind
      charges[n + 4], charges[n + 5], charges[n + 6] = tier.unit, tier.amount, level[2]
      charges[n + 7], charges[n + 8] = tier.limit, tier.period
    end
  end
  if scope.alive > now then served(scope, fields) end
  if #fields > 0 then
    if keeps then
      fields[#fields + 1] = 'kept'
      fields[#fields + 1] = text(now + scope.ttl * 1000)
    end
    call('HSET', scope.key, unpack(fields))
    if keeps then call('PEXPIRE', scope.key, scope.ttl) end
  end
end
call('SET', KEYS[2], cmsgpack.pack({now, 0, charges, places}), 'PX', record_ttl)
return {1, 0, 0, 0}
