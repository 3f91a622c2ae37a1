-- Fixed windows on a Redis hash: the same arithmetic as src/window/fixed.rs and src/window/period.rs, which argue it.
--
-- Time is cut into periods, each with a number. The hash holds
--   i          the number of the period that is counted
--   u          what was charged in it, less refunds
-- Complexity: O(1).

-- An algorithm for periods: index(now, window_ms) is the number of the period that a time is in, and
-- ends_at(index, window_ms) when it ends.
local function fixed(index, ends_at)
  -- How much longer than its period a counter is kept, in milliseconds: the clock of a replica that takes over may be
  -- behind.
  local CLOCKS_DIFFER_MS = 60000

  local windows = {}

  -- Reads the counter under `key`. Nothing counts that is of an earlier period; one of a later period counts, should
  -- the clock step back.
  function windows.read(key, now, window_ms)
    local stored = redis.call('HMGET', key, 'i', 'u')
    local window = { key = key, now = now, window_ms = window_ms, index = index(now, window_ms), used = 0 }
    local counted, used = tonumber(stored[1]), tonumber(stored[2])
    if counted then
      if counted < window.index or used == 0 then
        window.ended = true
      else
        window.index, window.used, window.stored = counted, used, true
      end
    end
    return window
  end

  local function left_ms(window)
    return math.max(ends_at(window.index, window.window_ms) - window.now, 0)
  end

  -- 0 if `cost` fits under `limit` now, -1 if it never does, else the milliseconds until it fits if nobody spends.
  function windows.fit(window, limit, cost)
    if cost > limit then
      return -1
    end
    if window.used <= limit - cost then
      return 0
    end
    return math.max(left_ms(window), 1)
  end

  -- Where a charge would go now: the period.
  function windows.place(window)
    return window.index
  end

  -- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
  function windows.charge(window, cost)
    if cost > 0 then
      window.used = window.used + cost
      window.dirty = true
    end
  end

  -- Gives `amount` back if the period that was charged is the one that is counted.
  function windows.refund(window, period, amount)
    if period == window.index and window.used > 0 then
      window.used = math.max(window.used - amount, 0)
      window.dirty = true
    end
  end

  -- Units in the period.
  function windows.used(window)
    return window.used
  end

  -- Milliseconds until the period ends; 0 if nothing is counted.
  function windows.reset_ms(window)
    return window.used == 0 and 0 or left_ms(window)
  end

  -- How long the counter must be kept, in milliseconds.
  function windows.keep_ms(window)
    return left_ms(window) + CLOCKS_DIFFER_MS
  end

  -- Writes what has changed. Returns whether a period began, at which its key's expiry is set.
  function windows.write(window)
    if not window.dirty then
      if window.ended then
        redis.call('DEL', window.key)
      end
      return false
    end
    redis.call('HSET', window.key, 'i', window.index, 'u', window.used)
    if not window.stored then
      redis.call('PEXPIRE', window.key, windows.keep_ms(window))
    end
    return not window.stored
  end

  return windows
end

-- Windows of one length, aligned to the epoch.
local function fixed_window()
  return fixed(function(now, window_ms)
    return math.floor(now / window_ms)
  end, function(index, window_ms)
    return (index + 1) * window_ms
  end)
end

-- Months of the Gregorian calendar in UTC, counted from January 1970.
local function calendar_month()
  -- Years begin in March and eras of 400 years on 0000-03-01, 719468 days before the epoch; MARCH_0 is the months from
  -- then to January 1970.
  local DAY_MS, EPOCH_DAY, ERA_DAYS, MARCH_0 = 86400000, 719468, 146097, 23638

  local function days_before_year(year)
    return 365 * year + math.floor(year / 4) - math.floor(year / 100)
  end

  return fixed(function(now)
    local day = math.floor(now / DAY_MS) + EPOCH_DAY
    local era, day_of_era = math.floor(day / ERA_DAYS), day % ERA_DAYS
    local leaps, centuries = math.floor(day_of_era / 1460), math.floor(day_of_era / 36524)
    local year = math.floor((day_of_era - leaps + centuries - math.floor(day_of_era / 146096)) / 365)
    local month = math.floor((5 * (day_of_era - days_before_year(year)) + 2) / 153)
    return (400 * era + year) * 12 + month - MARCH_0
  end, function(index)
    local months = index + 1 + MARCH_0
    local years, month = math.floor(months / 12), months % 12
    local era, year = math.floor(years / 400), years % 400
    return (era * ERA_DAYS + days_before_year(year) + math.floor((153 * month + 2) / 5) - EPOCH_DAY) * DAY_MS
  end)
end
