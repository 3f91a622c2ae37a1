-- periods_of_length(), calendar_months(), calendar_windows(): divisions of time into numbered periods. Twin of
-- src/window/period.rs and src/window/calendar.rs.
--
-- KEYS        None.
-- ARGV        None by itself: `parameter` is that of the window (prelude.lua), which only calendar_windows() reads.
-- Returns     Three functions: index(now, window_ms, parameter), the number of the period that contains a time,
--             ends_at(index, window_ms, parameter), the end of a period in milliseconds since the epoch, and
--             begins_at(index, window_ms, parameter), its beginning.
-- Complexity  O(1).

-- Periods of window_ms, the first of which begins at the epoch.
local function periods_of_length()
  return function(now, window_ms)
    return math.floor(now / window_ms)
  end, function(index, window_ms)
    return (index + 1) * window_ms
  end, function(index, window_ms)
    return index * window_ms
  end
end

-- Months of the Gregorian calendar in UTC, counted from January 1970, whatever window_ms is.
local function calendar_months()
  -- Years begin in March and eras of 400 years on 0000-03-01, 719468 days before the epoch; MARCH_0 is the months from
  -- then to January 1970.
  local DAY_MS, EPOCH_DAY, ERA_DAYS, MARCH_0 = 86400000, 719468, 146097, 23638

  local function days_before_year(year)
    return 365 * year + math.floor(year / 4) - math.floor(year / 100)
  end

  local function ends_at(index)
    local months = index + 1 + MARCH_0
    local years, month = math.floor(months / 12), months % 12
    local era, year = math.floor(years / 400), years % 400
    return (era * ERA_DAYS + days_before_year(year) + math.floor((153 * month + 2) / 5) - EPOCH_DAY) * DAY_MS
  end

  return function(now)
    local day = math.floor(now / DAY_MS) + EPOCH_DAY
    local era, day_of_era = math.floor(day / ERA_DAYS), day % ERA_DAYS
    local leaps, centuries = math.floor(day_of_era / 1460), math.floor(day_of_era / 36524)
    local year = math.floor((day_of_era - leaps + centuries - math.floor(day_of_era / 146096)) / 365)
    local month = math.floor((5 * (day_of_era - days_before_year(year)) + 2) / 153)
    return (400 * era + year) * 12 + month - MARCH_0
  end, ends_at, function(index)
    return index > 0 and ends_at(index - 1) or 0
  end
end

-- Periods of a calendar, each numbered by the time of its beginning. The parameter is <name>,<edge>,<edge>,...: the
-- name of the calendar, and the edges of its periods around the time of the call, as the filter knows them. This clock
-- decides which period it is. Beyond the edges, each period has the nominal length, window_ms.
local function calendar_windows()
  local known, kept

  -- The edges in a parameter, the earliest first. Those of the last one are kept: a window asks several times.
  local function edges_of(parameter)
    if parameter ~= known then
      known, kept = parameter, {}
      for edge in string.gmatch(parameter, ',(%d+)') do
        kept[#kept + 1] = tonumber(edge)
      end
    end
    return kept
  end

  return function(now, window_ms, parameter)
    local edges = edges_of(parameter)
    local first, last = edges[1], edges[#edges]
    if now < first then
      return math.max(first - window_ms * math.ceil((first - now) / window_ms), 0)
    elseif now >= last then
      return last + window_ms * math.floor((now - last) / window_ms)
    end
    local begin = first
    for _, edge in ipairs(edges) do
      begin = edge <= now and edge or begin
    end
    return begin
  end, function(begin, window_ms, parameter)
    local edges = edges_of(parameter)
    for _, edge in ipairs(edges) do
      if begin >= edges[1] and edge > begin then
        return edge
      end
    end
    return begin + window_ms
  end, function(begin)
    return begin
  end
end
