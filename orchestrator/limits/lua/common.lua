-- What the limiter's scripts share. Each script is this file followed by its own.
--
-- Times are microseconds of a clock that never goes back: the server's, and where that was set
-- back, on from where it was. Everything is done as in orchestrator/core/limits, operation by
-- operation, since both work with the same floats.
--
-- All keys begin with one hash tag, so they lie in one slot of a cluster. Below a scope's key H
--   H       hash: pause, kept (until when, at least), alive, virtual and comers of its line, and
--           a packed level for each tier
--   H:q     sorted set: who is expected, by place       H:d   sorted set: until when
--   H:t     hash: tickets of who waits, packed          H:f   hash: place each tenant has come to
--   H:p:T   sorted set: calls that hold a place of tier T, until when

local call = redis.call
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local CLOSED = -2
local SLACK, MARKS = 1e-12, 4
local LATE, KEEP, TIDIED, TIES, LOOKED = 200000, 30000000, 16, 1024, 32
local BEAT, PAUSE_GAP = 50000, 20000
local USUAL_HOLD, LEAST_WAIT, MOST_WAIT = 1000000, 10000, 10000000
local LATEST, FIRST = 0.2, 0.25
local META_TTL = 30 * 86400000

local function text(number) return string.format('%.17g', number) end

local function server_time()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- The present (monotonic, as the server has it, when all began), or nil in another epoch.
local function clock(meta, epoch)
  local known = call('HMGET', meta, 'epoch', 'last', 'skew', 'opened')
  if known[1] ~= epoch then return nil end
  local raw, last, skew = server_time(), tonumber(known[2]), tonumber(known[3])
  local now = raw + skew
  if now < last then
    call('HSET', meta, 'skew', text(skew + last - now))
    return last, raw, tonumber(known[4])
  end
  if now - last >= BEAT then
    call('HSET', meta, 'last', text(now))
    call('PEXPIRE', meta, META_TTL)
  end
  return now, raw, tonumber(known[4])
end

-- Levels: {used, at, grants, denials, waited, since 1, low 1, ...}

local formats = {}

local function doubles(count)
  local format = formats[count]
  if not format then
    format = '<' .. string.rep('d', count)
    formats[count] = format
  end
  return format
end

local function packed(level)
  return struct.pack(doubles(#level), unpack(level))
end

local function unpacked(bytes)
  local level = {struct.unpack(doubles(#bytes / 8), bytes)}
  level[#level] = nil -- the position after the last number
  return level
end

local function level_now(tier, level, now)
  return max(0, level[1] - tier.limit / tier.period * max(0, now - level[2]))
end

local function note_low(level, low)
  local since = nil
  while #level > 5 and level[#level] >= low do
    since = level[#level - 1]
    level[#level] = nil
    level[#level] = nil
  end
  if since and low > 0 then
    level[#level + 1] = since
    level[#level + 1] = low
  end
end

-- Of calendar days, those given; nil if they do not reach the present.
local function window_start(tier, raw)
  if tier.kind == 'w' then return floor(raw / tier.period) * tier.period end
  local found = nil
  for i = 1, #tier.days do
    if tier.days[i] <= raw then found = i end
  end
  if not found or found == #tier.days then return nil end
  return tier.days[found]
end

local function window_end(tier, start)
  if tier.kind == 'w' then return start + tier.period end
  for i = 1, #tier.days do
    if tier.days[i] > start then return tier.days[i] end
  end
  return start
end

-- The level of a tier from its bytes; nil for a long tier of which nothing is known.
local function level_of(tier, bytes, raw, opened)
  local level = nil
  if bytes then
    level = unpacked(bytes)
  elseif tier.is_long then
    return nil
  elseif tier.kind == 'c' then
    level = {0, 0, 0, 0, 0}
  elseif tier.kind == 'b' then
    level = {tier.capacity, opened, 0, 0, 0}
  else
    local start = window_start(tier, raw)
    level = {start < opened and tier.limit or 0, start, 0, 0, 0}
  end
  if tier.kind == 'w' or tier.kind == 'd' then
    local start = window_start(tier, raw)
    if level[2] < start then level[1], level[2] = 0, start end
  end
  return level
end

-- Scopes as JSON has them: for each its time to live in ms and its tiers, and for each of these
-- key, kind (b bucket, w window, d calendar day, c places), unit, limit, capacity, period and, of
-- calendar days, their beginnings.
local function read_scopes(json)
  local scopes = cjson.decode(json)
  for s, given in ipairs(scopes) do
    local tiers = {}
    for t = 2, #given do
      local it = given[t]
      tiers[t - 1] = {
        key = it[1], kind = it[2], unit = it[3], limit = it[4], capacity = it[5], period = it[6],
        days = it[7], is_long = it[6] >= 3600000000, most = it[2] == 'b' and it[5] or it[4],
      }
    end
    scopes[s] = {ttl = given[1], tiers = tiers}
  end
  return scopes
end

-- Tickets: {place, cost, since, amount of each of 5 units}, then the tenant.

-- Takes a waiter out of the line before the scope with this key.
local function forget(key, name)
  local ticket = call('HGET', key .. ':t', name)
  call('ZREM', key .. ':q', name)
  call('ZREM', key .. ':d', name)
  if not ticket then return end
  call('HDEL', key .. ':t', name)
  local _, cost = struct.unpack('<dd', ticket)
  local whose = string.sub(ticket, 65)
  local finished = call('HGET', key .. ':f', whose)
  if finished then
    -- What it will not use is not held against its tenant.
    call('HSET', key .. ':f', whose, text(tonumber(finished) - cost))
  end
end

-- What is recorded of a grant: {when, 0 or 1 if it was settled, charges, places}. A charge takes
-- CHARGE entries: scope's key, tier's key, kind, unit, amount, at, limit, period. A place takes
-- PLACE entries: key of its sorted set, scope's key, tier's key.
local CHARGE, PLACE = 8, 3

local function correct(level, tier, delta, granted_at, now)
  if tier.kind ~= 'b' then
    if level[2] == tier.at then level[1] = max(0, level[1] + delta) end
    return
  end
  if delta >= 0 then
    level[1] = level[1] + delta
    return
  end
  note_low(level, level_now(tier, level, now))
  local last = nil
  for i = 6, #level, 2 do
    if level[i] <= granted_at then last = i end
  end
  if not last then return end
  local back = min(-delta, level[last + 1])
  local lowest = level[last + 1] - back
  level[1] = level[1] - back
  local marks = {}
  for i = 6, #level, 2 do
    local since, low = level[i], i >= last and level[i + 1] - back or min(level[i + 1], lowest)
    if low <= 0 then
      marks = {}
    else
      while #marks > 0 and marks[#marks][2] >= low do
        since = marks[#marks][1]
        marks[#marks] = nil
      end
      marks[#marks + 1] = {since, low}
    end
  end
  for i = #level, 6, -1 do level[i] = nil end
  for _, mark in ipairs(marks) do
    level[#level + 1] = mark[1]
    level[#level + 1] = mark[2]
  end
end

-- Gives places back; `learn` says whether the time for which they were held counts.
local function free(id, grant, now, learn)
  local places = grant[4]
  for i = 1, #places, PLACE do
    if call('ZREM', places[i], id) == 1 and learn then
      local bytes = call('HGET', places[i + 1], places[i + 2])
      if bytes then
        local level, lasted = unpacked(bytes), now - grant[1]
        level[1] = level[1] == 0 and lasted or level[1] + LATEST * (lasted - level[1])
        call('HSET', places[i + 1], places[i + 2], packed(level))
      end
    end
  end
end

local function renew(id, grant, now, lease, ttl)
  local places = grant[4]
  for i = 1, #places, PLACE do
    -- A place that was given up, and may be another's by now, is not taken again.
    call('ZADD', places[i], 'XX', text(now + lease), id)
    call('PEXPIRE', places[i], ttl, 'GT')
  end
end

-- Charges the real amounts instead of the estimates; `amount_of` tells them by unit.
local function correct_all(grant, now, amount_of)
  local charges = grant[3]
  for i = 1, #charges, CHARGE do
    local estimate = charges[i + 4]
    local delta = amount_of(charges[i + 3], estimate) - estimate
    local bytes = delta ~= 0 and call('HGET', charges[i], charges[i + 1])
    if bytes then
      local level = unpacked(bytes)
      local tier = {kind = charges[i + 2], at = charges[i + 5], limit = charges[i + 6],
        period = charges[i + 7]}
      correct(level, tier, delta, grant[1], now)
      call('HSET', charges[i], charges[i + 1], packed(level))
    end
  end
end
