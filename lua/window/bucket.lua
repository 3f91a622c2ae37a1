-- token_bucket(): the token bucket on a Redis hash. Twin of src/window/bucket.rs, which argues the arithmetic.
--
-- KEYS        None by itself: `read` takes the counter's key.
-- ARGV        None by itself: `read` takes window_ms, the burst and the limit.
-- Returns     An algorithm, the table of functions below. `read` returns a reading, the first argument of all others.
-- Complexity  O(MAX_LOWS).
--
-- Used units drain evenly, by the limit in each window. The hash holds
--   u, d       the level: u units less d parts of one unit; a unit has window_ms parts
--   a          the time of that level, in milliseconds, which is the counter's if the clock has stepped back
--   o          how far the counter's time is ahead of the clock, in milliseconds
--   r          the limit in force
--   l          the lows, oldest first, each three numbers of one list: since, u, d (MessagePack)
--   x          the counter's time at which the key expires
--   g          its grants (grants.lua)
-- The product of a cost or a limit and a time may exceed the 53 bits of a Lua number, so multiply_divide forms it only
-- if it does not.
local function token_bucket()
  local MAX_LOWS = 64

  -- The longest duration that a bucket reports, in milliseconds: a Lua number cannot count further without gaps.
  local MAX_WAIT_MS = 2 ^ 53 - 1

  -- Redis keeps a counter for twice the time that it takes to drain and a minute, and never longer than ten years.
  local MARGIN_MS, MAX_KEEP_MS = 60000, 316224000000

  -- The quotient and the remainder of a * b / divisor, exact for whole numbers below 2^53 if a is less than divisor.
  local function multiply_divide(a, b, divisor)
    local product = a * b
    if product < 2 ^ 53 then
      return math.floor(product / divisor), product % divisor
    end
    -- For each bit of b, from the highest: double the result, and add a if the bit is set. `rest` stays below divisor.
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

  -- Milliseconds until `units` more have drained, at least 1; nil if nothing drains.
  local function drains_in(reading, units)
    local limit, window_ms = reading.limit, reading.window_ms
    if limit == 0 then
      return nil
    end
    if units / limit * window_ms > 2 * MAX_WAIT_MS then
      return MAX_WAIT_MS
    end
    local whole, rest = multiply_divide(units % limit, window_ms, limit)
    local wait = math.floor(units / limit) * window_ms + whole + math.ceil((rest - reading.drained) / limit)
    return math.max(math.min(wait + math.max(reading.at - reading.now, 0), MAX_WAIT_MS), 1)
  end

  -- Drains the bucket until its time by `limit`, which was in force. A clock that has stepped back drains nothing.
  local function drain(reading, limit)
    local elapsed = reading.now - reading.at
    if elapsed > 0 then
      local window_ms = reading.window_ms
      local units, parts = multiply_divide(elapsed % window_ms, limit, window_ms)
      units = units + math.floor(elapsed / window_ms) * limit
      parts = parts + reading.drained
      if parts >= window_ms then
        units, parts = units + 1, parts - window_ms
      end
      reading.units, reading.drained, reading.at = math.max(reading.units - units, 0), parts, reading.now
      reading.dirty = true
    end
  end

  -- Makes the bucket equal to one that was never charged.
  local function empty(reading)
    reading.units, reading.drained, reading.lows = 0, 0, {}
    reading.at, reading.now, reading.lead, reading.limit = reading.clock, reading.clock, 0, reading.own_limit
  end

  -- Reads lows. Those that are not ours are none, so that refunds give back nothing.
  local function read_lows(packed)
    local is_read, lows = pcall(cmsgpack.unpack, packed or '')
    if not is_read or type(lows) ~= 'table' or #lows % 3 ~= 0 or #lows > 3 * MAX_LOWS then
      return {}
    end
    for _, number in ipairs(lows) do
      if type(number) ~= 'number' or not (number >= 0 and number < 2 ^ 53) then
        return {}
      end
    end
    return lows
  end

  -- Reads the bucket under `key`, drained until `now`. `limit` applies from now on if `in_force`, else only if Redis
  -- has no limit for the bucket.
  local function read(key, now, window_ms, burst, limit, in_force)
    local reading = {
      key = key,
      now = now,
      clock = now,
      window_ms = window_ms,
      burst = limit > 0 and burst or 0,
      limit = limit,
      own_limit = limit,
      units = 0,
      drained = 0,
      at = now,
      lead = 0,
      lows = {},
      expires = 0,
    }
    local fields, is_foreign = try('HMGET', key, 'u', 'd', 'a', 'r', 'l', 'x', 'o', 'g')
    read_grants(reading, fields[8], now)
    local units, drained, at = whole(fields[1]), whole(fields[2]), whole(fields[3])
    if not units or not drained or not at or drained >= window_ms or at >= 2 ^ 52 then
      reading.is_foreign = is_foreign or fields[1] or fields[2] or fields[3]
      return reading
    end
    reading.stored = true
    reading.units, reading.drained, reading.at = units, drained, at
    reading.lows, reading.expires = read_lows(fields[5]), whole(fields[6]) or 0
    local limit_before = whole(fields[4]) or limit
    if units > 0 then
      local lead = math.min(whole(fields[7]) or 0, 2 ^ 52)
      reading.lead, reading.now = counter_time(lead, now, at, slack_ms(window_ms))
      reading.dirty = reading.lead ~= lead
    end
    drain(reading, limit_before)
    if reading.units == 0 then
      empty(reading)
    elseif not in_force then
      reading.limit = limit_before
    elseif limit ~= limit_before then
      reading.dirty = true
    end
    return reading
  end

  -- 0 if `cost` fits now into `capacity`, the burst and what is granted, -1 if it never does, else the milliseconds
  -- until it fits if nothing more is charged.
  local function fit(reading, capacity, cost)
    if cost > capacity then
      return -1
    end
    local too_much = reading.units - (capacity - cost)
    if too_much <= 0 then
      return 0
    end
    return drains_in(reading, too_much) or -1
  end

  -- The place of a charge made now: its time.
  local function place(reading)
    return reading.at
  end

  -- Whether a level of u units less d parts is lower than another.
  local function lower(u, d, other_u, other_d)
    return u < other_u or u == other_u and d > other_d
  end

  -- A level without another one.
  local function without(u, d, less_u, less_d, window_ms)
    if not lower(less_u, less_d, u, d) then
      return 0, 0
    end
    if d < less_d then
      return u - less_u + 1, d - less_d + window_ms
    end
    return u - less_u, d - less_d
  end

  -- Merges the two neighbouring lows that differ least into the lower one; of several such pairs, the oldest.
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
  local function charge(reading, cost)
    if cost == 0 then
      return
    end
    local lows, u, d = reading.lows, reading.units, reading.drained
    local i, merged = #lows - 2, nil
    while i > 0 and not lower(lows[i + 1], lows[i + 2], u, d) do
      merged = lows[i]
      lows[i], lows[i + 1], lows[i + 2] = nil, nil, nil
      i = i - 3
    end
    -- Charges of one millisecond are one charge: nothing drains between them.
    if merged and merged < reading.at then
      add_low(lows, merged, u, d)
    end
    reading.units = math.min(u + cost, TOO_MUCH)
    add_low(lows, reading.at, reading.units, d)
    if #lows > 3 * MAX_LOWS then
      merge_closest_lows(lows, reading.window_ms)
    end
    reading.dirty = true
  end

  -- Refunds the part of `amount`, charged at the time `place`, that has not drained. A place that the counter's time
  -- has not reached is from before the bucket was empty and the clock stepped back.
  local function refund(reading, place, amount)
    if place > reading.at or reading.units >= TOO_MUCH then
      return
    end
    local lows, window_ms = reading.lows, reading.window_ms
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
    reading.units, reading.drained = without(reading.units, reading.drained, u, d, window_ms)
    if reading.units == 0 then
      empty(reading)
    end
    reading.dirty = true
  end

  -- Units that have not drained. A part of a unit counts as a unit.
  local function used(reading)
    return reading.units
  end

  -- Milliseconds until all used units have drained if nothing more is charged; 0 if they have.
  local function reset_ms(reading)
    return reading.units == 0 and 0 or drains_in(reading, reading.units) or MAX_WAIT_MS
  end

  -- How long Redis must keep the counter, in milliseconds.
  local function keep_ms(reading)
    local full = drains_in(reading, math.max(reading.units, reading.burst, 1)) or MAX_WAIT_MS
    return math.min(2 * full + MARGIN_MS, MAX_KEEP_MS)
  end

  -- Writes the changes. Returns whether it set the key's expiry anew: every key expires, and a busy bucket does not pay
  -- for that on each request.
  local function write(reading)
    if not reading.dirty then
      return false
    end
    if reading.units == 0 then
      if reading.stored then
        delete_counter(reading)
      end
      return false
    end
    if reading.is_foreign then
      delete_counter(reading)
    end
    local lifetime_ms = keep_ms(reading)
    local prolong = reading.expires < reading.now + math.min(reset_ms(reading) + MARGIN_MS, lifetime_ms)
    if prolong then
      reading.expires = reading.now + lifetime_ms
    end
    redis.call(
      'HSET', reading.key, 'u', reading.units, 'd', reading.drained, 'a', reading.at, 'r', reading.limit,
      'l', cmsgpack.pack(reading.lows), 'x', reading.expires, 'o', reading.lead
    )
    if prolong then
      expire_counter(reading, lifetime_ms)
    end
    return prolong
  end

  return {
    read = read,
    fit = fit,
    place = place,
    charge = charge,
    refund = refund,
    used = used,
    reset_ms = reset_ms,
    keep_ms = keep_ms,
    write = write,
  }
end
