-- fixed_window(index, ends_at): fixed windows on a Redis hash, over the periods that the two functions define (see
-- period.lua). Twin of src/window/fixed.rs, which argues the arithmetic.
--
-- KEYS        None by itself: `read` takes the counter's key.
-- ARGV        None by itself: `read` takes window_ms.
-- Returns     An algorithm, the table of functions below. `read` returns a reading, the first argument of all others.
-- Complexity  O(1).
--
-- The hash holds
--   i          the number of the current period
--   u          the units charged in that period, less refunds
local function fixed_window(index, ends_at)
  -- How much longer than its period Redis keeps a counter, in milliseconds: the clock of a replica that takes over may
  -- be behind.
  local MAX_CLOCK_LAG_MS = 60000

  -- Reads the counter under `key`. It begins anew in a later period, and stays in its period if the clock has stepped
  -- back.
  local function read(key, now, window_ms)
    local stored = redis.call('HMGET', key, 'i', 'u')
    local reading = { key = key, now = now, window_ms = window_ms, index = index(now, window_ms), used = 0 }
    local counted, used = tonumber(stored[1]), tonumber(stored[2])
    if counted then
      if counted < reading.index or used == 0 then
        reading.ended = true
      else
        reading.index, reading.used, reading.stored = counted, used, true
      end
    end
    return reading
  end

  local function left_ms(reading)
    return math.max(ends_at(reading.index, reading.window_ms) - reading.now, 0)
  end

  -- 0 if `cost` fits under `limit` now, -1 if it never does, else the milliseconds until it fits if nothing more is
  -- charged.
  local function fit(reading, limit, cost)
    if cost > limit then
      return -1
    end
    if reading.used <= limit - cost then
      return 0
    end
    return math.max(left_ms(reading), 1)
  end

  -- The place of a charge made now: its period.
  local function place(reading)
    return reading.index
  end

  -- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
  local function charge(reading, cost)
    if cost > 0 then
      reading.used = reading.used + cost
      reading.dirty = true
    end
  end

  -- Refunds `amount` if `place` is the current period.
  local function refund(reading, place, amount)
    if place == reading.index and reading.used > 0 then
      reading.used = math.max(reading.used - amount, 0)
      reading.dirty = true
    end
  end

  -- Units in the period.
  local function used(reading)
    return reading.used
  end

  -- Milliseconds until the period ends; 0 if nothing is charged.
  local function reset_ms(reading)
    return reading.used == 0 and 0 or left_ms(reading)
  end

  -- How long Redis must keep the counter, in milliseconds.
  local function keep_ms(reading)
    return left_ms(reading) + MAX_CLOCK_LAG_MS
  end

  -- Writes the changes. Returns whether a period began, which sets the key's expiry.
  local function write(reading)
    if not reading.dirty then
      if reading.ended then
        redis.call('DEL', reading.key)
      end
      return false
    end
    redis.call('HSET', reading.key, 'i', reading.index, 'u', reading.used)
    if not reading.stored then
      redis.call('PEXPIRE', reading.key, keep_ms(reading))
    end
    return not reading.stored
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
