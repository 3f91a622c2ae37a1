-- fixed_window(index, ends_at, begins_at): fixed windows on a Redis hash, over the periods that the three functions
-- define (see period.lua). Twin of src/window/fixed.rs, which argues the arithmetic.
--
-- KEYS        None by itself: `read` takes the counter's key.
-- ARGV        None by itself: `read` takes window_ms and the parameter of the window.
-- Returns     An algorithm, the table of functions below. `read` returns a reading, the first argument of all others.
-- Complexity  O(1).
--
-- The hash holds
--   i          the number of the current period
--   u          the units charged in that period, less refunds
--   o          how many periods that number is ahead of the clock; absent until the clock steps back
--   g          its grants (grants.lua)
local function fixed_window(index, ends_at, begins_at)
  -- How much longer than its period Redis keeps a counter, in milliseconds: the clock of a replica that takes over may
  -- be behind.
  local MAX_CLOCK_LAG_MS = 60000

  -- Reads the counter under `key`. It begins anew in a later period. If the clock has stepped back to an earlier one,
  -- what is used counts until the end of that one, and the number stays, so that refunds find their charge.
  local function read(key, now, window_ms, parameter)
    local fields, is_foreign = try('HMGET', key, 'i', 'u', 'o', 'g')
    local by_clock = index(now, window_ms, parameter)
    local reading = {
      key = key,
      now = now,
      window_ms = window_ms,
      parameter = parameter,
      index = by_clock,
      by_clock = by_clock,
      used = 0,
      lead = 0,
    }
    read_grants(reading, fields[4], now)
    local counted, used, lead = whole(fields[1]), whole(fields[2]), whole(fields[3]) or 0
    if not counted or not used or used == 0 or counted < by_clock + lead then
      reading.ended = is_foreign or fields[1] or fields[2] or fields[3]
      return reading
    end
    reading.index, reading.used, reading.stored = counted, used, true
    if begins_at(counted - lead, window_ms, parameter) - now > slack_ms(window_ms) then
      lead, reading.moved, reading.dirty = counted - by_clock, true, true
    end
    reading.lead = lead
    return reading
  end

  local function left_ms(reading)
    local ends = ends_at(reading.index - reading.lead, reading.window_ms, reading.parameter)
    return math.max(ends - reading.now, 0)
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
      reading.used = math.min(reading.used + cost, TOO_MUCH)
      reading.dirty = true
    end
  end

  -- Refunds `amount` if `place` is the current period.
  local function refund(reading, place, amount)
    if place == reading.index and reading.used > 0 and reading.used < TOO_MUCH then
      reading.used = math.max(reading.used - amount, 0)
      reading.dirty = true
      if reading.used == 0 and (reading.index ~= reading.by_clock or reading.lead ~= 0) then
        -- Nothing is left that the clock could be behind.
        reading.index, reading.lead, reading.moved = reading.by_clock, 0, false
        reading.ended, reading.stored = true, false
      end
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
        delete_counter(reading)
      end
      return false
    end
    if reading.ended then
      delete_counter(reading)
    end
    redis.call('HSET', reading.key, 'i', decimals(reading.index), 'u', decimals(reading.used))
    if reading.moved then
      redis.call('HSET', reading.key, 'o', decimals(reading.lead))
    end
    if not reading.stored then
      expire_counter(reading, keep_ms(reading))
    end
    return not reading.stored
  end

  return {
    read = read,
    fit = fit,
    place = place,
    charge = charge,
    refund = refund,
    left_ms = left_ms,
    used = used,
    reset_ms = reset_ms,
    keep_ms = keep_ms,
    write = write,
  }
end
