-- The token bucket on a Redis hash: the same arithmetic as src/window/bucket.rs, which argues it.
--
-- What was used drains evenly, the limit in each window. The hash holds
--   u, d       the level: u units less d parts of one, of which a unit has window_ms
--   a          as of when, in milliseconds
--   r          the limit that is in force
--   l          the lows, oldest first, as <since>:<u>:<d> separated by commas
--   x          when the key expires
-- Products of a cost or a limit and a time may not fit into the 53 bits of a Lua number, so they are never formed where
-- they do not. Complexity: O(MOST_LOWS).
local MOST_LOWS = 64

-- The longest time that is told, in milliseconds.
local LONGEST_MS = 2 ^ 53 - 1

-- A counter is kept for twice the time that it takes to drain and a minute, and never longer than ten years.
local MARGIN_MS, MOST_KEEP_MS = 60000, 316224000000

-- The whole part and the rest of a * b / divisor, exact for whole numbers below 2^53 of which a is less than divisor.
local function multiply_divide(a, b, divisor)
  local product = a * b
  if product < 2 ^ 53 then
    return math.floor(product / divisor), product % divisor
  end
  -- The bits of b from the highest: double what there is, and add a for each that is set. `rest` stays below divisor.
  local whole, rest, bit = 0, 0, 2 ^ 52
  local function add(more)
    if rest >= divisor - more then
      rest = rest - (divisor - more)
      whole = whole + 1
    else
      rest = rest + more
    end
  end
  while bit >= 1 do
    whole = whole * 2
    add(rest)
    if b >= bit then
      b = b - bit
      add(a)
    end
    bit = bit / 2
  end
  return whole, rest
end

local bucket = {}

-- Milliseconds until `units` more have drained, at least 1; nil if nothing drains.
local function drains_in(window, units)
  local limit, window_ms = window.limit, window.window_ms
  if limit == 0 then
    return nil
  end
  if units / limit * window_ms > 2 * LONGEST_MS then
    return LONGEST_MS
  end
  local whole, rest = multiply_divide(units % limit, window_ms, limit)
  local wait = math.floor(units / limit) * window_ms + whole + math.ceil((rest - window.level[2]) / limit)
  return math.max(math.min(wait + math.max(window.at - window.now, 0), LONGEST_MS), 1)
end

-- Lets drain what has drained by now at the limit that was in force: nothing if the clock has stepped back.
local function drain(window, limit)
  local elapsed = window.now - window.at
  if elapsed > 0 then
    local window_ms = window.window_ms
    local units, parts = multiply_divide(elapsed % window_ms, limit, window_ms)
    units = units + math.floor(elapsed / window_ms) * limit
    parts = parts + window.level[2]
    if parts >= window_ms then
      units, parts = units + 1, parts - window_ms
    end
    window.level, window.at = { math.max(window.level[1] - units, 0), parts }, window.now
    window.dirty = true
  end
end

-- Makes it as one that was never charged.
local function empty(window)
  window.level, window.lows = { 0, 0 }, {}
end

-- Reads the bucket under `key`. `limit` and `burst` are in force from now on if `in_force`; else they are where none is
-- stored.
function bucket.read(key, now, window_ms, burst, limit, in_force)
  local window = {
    key = key,
    now = now,
    window_ms = window_ms,
    burst = limit > 0 and burst or 0,
    limit = limit,
    level = { 0, 0 },
    at = now,
    lows = {},
    expires = 0,
  }
  local stored = redis.call('HMGET', key, 'u', 'd', 'a', 'r', 'l', 'x')
  if not stored[1] then
    return window
  end
  window.stored = true
  window.level, window.at = { tonumber(stored[1]), tonumber(stored[2]) }, tonumber(stored[3])
  window.expires = tonumber(stored[6])
  for since, units, drained in string.gmatch(stored[5], '(%d+):(%d+):(%d+)') do
    window.lows[#window.lows + 1] = { tonumber(since), { tonumber(units), tonumber(drained) } }
  end
  local limit_before = tonumber(stored[4])
  drain(window, limit_before)
  if window.level[1] == 0 then
    -- As if none were stored.
    empty(window)
    window.at = now
  elseif not in_force then
    window.limit = limit_before
  elseif limit ~= limit_before then
    window.dirty = true
  end
  return window
end

-- 0 if `cost` fits now, -1 if it never does, else the milliseconds until it fits if nobody spends.
function bucket.fit(window, _, cost)
  if cost > window.burst then
    return -1
  end
  local too_much = window.level[1] - (window.burst - cost)
  if too_much <= 0 then
    return 0
  end
  return drains_in(window, too_much) or -1
end

-- Where a charge would go now: its time.
function bucket.place(window)
  return window.at
end

-- Whether the level `one` is lower than `other`.
local function lower(one, other)
  return one[1] < other[1] or one[1] == other[1] and one[2] > other[2]
end

-- What is left of a level without `less`.
local function without(level, less, window_ms)
  if not lower(less, level) then
    return { 0, 0 }
  end
  local units, drained = level[1] - less[1], level[2] - less[2]
  if drained < 0 then
    return { units + 1, drained + window_ms }
  end
  return { units, drained }
end

-- Makes one of the two lows next to each other that differ least; of several such pairs, of the oldest.
local function merge_closest_lows(lows, window_ms)
  local closest, least
  for i = 1, #lows - 1 do
    local gap = without(lows[i + 1][2], lows[i][2], window_ms)
    if not least or lower(gap, least) then
      closest, least = i, gap
    end
  end
  local gone = table.remove(lows, closest + 1)
  if lower(gone[2], lows[closest][2]) then
    lows[closest][2] = gone[2]
  end
end

-- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
function bucket.charge(window, cost)
  if cost == 0 then
    return
  end
  local lows, before, merged = window.lows, window.level, nil
  while #lows > 0 and not lower(lows[#lows][2], before) do
    merged = table.remove(lows)[1]
  end
  window.level = { before[1] + cost, before[2] }
  -- Charges of one millisecond are one charge: nothing drains between them.
  if merged and merged < window.at then
    lows[#lows + 1] = { merged, before }
  end
  lows[#lows + 1] = { window.at, window.level }
  if #lows > MOST_LOWS then
    merge_closest_lows(lows, window.window_ms)
  end
  window.dirty = true
end

-- Gives back what of `amount`, charged at the time `place`, has not drained.
function bucket.refund(window, place, amount)
  local lows = window.lows
  local first = #lows
  while first > 0 and lows[first][1] > place do
    first = first - 1
  end
  if first == 0 then
    return
  end
  local back = { amount, 0 }
  for i = first, #lows do
    if lower(lows[i][2], back) then
      back = lows[i][2]
    end
    lows[i][2] = without(lows[i][2], back, window.window_ms)
  end
  window.level = without(window.level, back, window.window_ms)
  if window.level[1] == 0 then
    empty(window)
  end
  window.dirty = true
end

-- Units that have not drained; a part of one counts as one.
function bucket.used(window)
  return window.level[1]
end

-- Milliseconds until the bucket is as it was before any use, if nobody spends; 0 if it is.
function bucket.reset_ms(window)
  return window.level[1] == 0 and 0 or drains_in(window, window.level[1]) or LONGEST_MS
end

-- How long the counter must be kept, in milliseconds.
function bucket.keep_ms(window)
  local full = drains_in(window, math.max(window.level[1], window.burst, 1)) or LONGEST_MS
  return math.min(2 * full + MARGIN_MS, MOST_KEEP_MS)
end

-- Writes what has changed. Returns whether the key's expiry was set anew: every key expires by itself, and a busy bucket
-- does not pay for it on each request.
function bucket.write(window)
  if not window.dirty then
    return false
  end
  if window.level[1] == 0 then
    if window.stored then
      redis.call('DEL', window.key)
    end
    return false
  end
  local keep_ms = bucket.keep_ms(window)
  local prolong = window.expires < window.now + math.min(bucket.reset_ms(window) + MARGIN_MS, keep_ms)
  if prolong then
    window.expires = window.now + keep_ms
  end
  local lows = {}
  for i, low in ipairs(window.lows) do
    lows[i] = string.format('%.0f:%.0f:%.0f', low[1], low[2][1], low[2][2])
  end
  redis.call(
    'HSET', window.key, 'u', window.level[1], 'd', window.level[2], 'a', window.at, 'r', window.limit,
    'l', table.concat(lows, ','), 'x', window.expires
  )
  if prolong then
    redis.call('PEXPIRE', window.key, keep_ms)
  end
  return prolong
end
