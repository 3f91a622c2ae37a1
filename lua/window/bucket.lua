-- The token bucket on a Redis hash: the same arithmetic as src/window/bucket.rs, which argues it.
--
-- What was used drains evenly, the limit in each window. The hash holds
--   u, d       the level: u units less d parts of one, of which a unit has window_ms
--   a          as of when, in milliseconds
--   r          the limit that is in force
--   l          the lows, oldest first, each three numbers of one list: since, u, d (MessagePack)
--   x          when the key expires
-- Products of a cost or a limit and a time may not fit into the 53 bits of a Lua number, so they are never formed where
-- they do not. Complexity: O(MOST_LOWS).
local function token_bucket()
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
    local wait = math.floor(units / limit) * window_ms + whole + math.ceil((rest - window.drained) / limit)
    return math.max(math.min(wait + math.max(window.at - window.now, 0), LONGEST_MS), 1)
  end

  -- Lets drain what has drained by now at the limit that was in force: nothing if the clock has stepped back.
  local function drain(window, limit)
    local elapsed = window.now - window.at
    if elapsed > 0 then
      local window_ms = window.window_ms
      local units, parts = multiply_divide(elapsed % window_ms, limit, window_ms)
      units = units + math.floor(elapsed / window_ms) * limit
      parts = parts + window.drained
      if parts >= window_ms then
        units, parts = units + 1, parts - window_ms
      end
      window.units, window.drained, window.at = math.max(window.units - units, 0), parts, window.now
      window.dirty = true
    end
  end

  -- Makes it as one that was never charged.
  local function empty(window)
    window.units, window.drained, window.lows = 0, 0, {}
  end

  -- Reads the bucket under `key`. `limit` and `burst` are in force from now on if `in_force`; else they are where none
  -- is stored.
  function bucket.read(key, now, window_ms, burst, limit, in_force)
    local window = {
      key = key,
      now = now,
      window_ms = window_ms,
      burst = limit > 0 and burst or 0,
      limit = limit,
      units = 0,
      drained = 0,
      at = now,
      lows = {},
      expires = 0,
    }
    local stored = redis.call('HMGET', key, 'u', 'd', 'a', 'r', 'l', 'x')
    if not stored[1] then
      return window
    end
    window.stored = true
    window.units, window.drained, window.at = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
    window.lows, window.expires = cmsgpack.unpack(stored[5]), tonumber(stored[6])
    local limit_before = tonumber(stored[4])
    drain(window, limit_before)
    if window.units == 0 then
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
    local too_much = window.units - (window.burst - cost)
    if too_much <= 0 then
      return 0
    end
    return drains_in(window, too_much) or -1
  end

  -- Where a charge would go now: its time.
  function bucket.place(window)
    return window.at
  end

  -- Whether a level of u units less d parts is lower than another.
  local function lower(u, d, other_u, other_d)
    return u < other_u or u == other_u and d > other_d
  end

  -- What is left of a level without another one.
  local function without(u, d, less_u, less_d, window_ms)
    if not lower(less_u, less_d, u, d) then
      return 0, 0
    end
    if d < less_d then
      return u - less_u + 1, d - less_d + window_ms
    end
    return u - less_u, d - less_d
  end

  -- Makes one of the two lows next to each other that differ least; of several such pairs, of the oldest.
  local function merge_closest_lows(lows, window_ms)
    local closest, least_u, least_d
    for i = 1, #lows - 3, 3 do
      local u, d = without(lows[i + 4], lows[i + 5], lows[i + 1], lows[i + 2], window_ms)
      if not closest or lower(u, d, least_u, least_d) then
        closest, least_u, least_d = i, u, d
      end
    end
    table.remove(lows, closest + 3)
    local u, d = table.remove(lows, closest + 3), table.remove(lows, closest + 3)
    if lower(u, d, lows[closest + 1], lows[closest + 2]) then
      lows[closest + 1], lows[closest + 2] = u, d
    end
  end

  -- Adds a low at the end.
  local function add_low(lows, since, u, d)
    local i = #lows
    lows[i + 1], lows[i + 2], lows[i + 3] = since, u, d
  end

  -- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
  function bucket.charge(window, cost)
    if cost == 0 then
      return
    end
    local lows, u, d = window.lows, window.units, window.drained
    local i, merged = #lows - 2, nil
    while i > 0 and not lower(lows[i + 1], lows[i + 2], u, d) do
      merged = lows[i]
      lows[i], lows[i + 1], lows[i + 2] = nil, nil, nil
      i = i - 3
    end
    -- Charges of one millisecond are one charge: nothing drains between them.
    if merged and merged < window.at then
      add_low(lows, merged, u, d)
    end
    window.units = u + cost
    add_low(lows, window.at, window.units, d)
    if #lows > 3 * MOST_LOWS then
      merge_closest_lows(lows, window.window_ms)
    end
    window.dirty = true
  end

  -- Gives back what of `amount`, charged at the time `place`, has not drained.
  function bucket.refund(window, place, amount)
    local lows, window_ms = window.lows, window.window_ms
    local first = #lows - 2
    while first > 0 and lows[first] > place do
      first = first - 3
    end
    if first < 1 then
      return
    end
    local u, d = amount, 0
    for i = first, #lows, 3 do
      local low_u, low_d = lows[i + 1], lows[i + 2]
      if lower(low_u, low_d, u, d) then
        u, d = low_u, low_d
      end
      lows[i + 1], lows[i + 2] = without(low_u, low_d, u, d, window_ms)
    end
    window.units, window.drained = without(window.units, window.drained, u, d, window_ms)
    if window.units == 0 then
      empty(window)
    end
    window.dirty = true
  end

  -- Units that have not drained; a part of one counts as one.
  function bucket.used(window)
    return window.units
  end

  -- Milliseconds until the bucket is as it was before any use, if nobody spends; 0 if it is.
  function bucket.reset_ms(window)
    return window.units == 0 and 0 or drains_in(window, window.units) or LONGEST_MS
  end

  -- How long the counter must be kept, in milliseconds.
  function bucket.keep_ms(window)
    local full = drains_in(window, math.max(window.units, window.burst, 1)) or LONGEST_MS
    return math.min(2 * full + MARGIN_MS, MOST_KEEP_MS)
  end

  -- Writes what has changed. Returns whether the key's expiry was set anew: every key expires by itself, and a busy
  -- bucket does not pay for it on each request.
  function bucket.write(window)
    if not window.dirty then
      return false
    end
    if window.units == 0 then
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
    redis.call(
      'HSET', window.key, 'u', window.units, 'd', window.drained, 'a', window.at, 'r', window.limit,
      'l', cmsgpack.pack(window.lows), 'x', window.expires
    )
    if prolong then
      redis.call('PEXPIRE', window.key, keep_ms)
    end
    return prolong
  end

  return bucket
end
