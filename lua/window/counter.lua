-- counter: a counter of any algorithm, and the steps of a reservation: reserve, extend, settle, detach. Twin of
-- src/window/counter.rs. The arithmetic is in the files of the algorithms.
--
-- KEYS        None by itself.
-- ARGV        None by itself: `algorithm_named` takes an algorithm's name.
-- Returns     The functions below. A `window` is what `window_at` returns (prelude.lua), with the cost of a call;
--             `parts` are a reservation's charges to it (record.lua).
-- Complexity  O(parts), at most MAX_PARTS, and what the algorithm's functions take.
--
-- An algorithm is a table of functions: read, fit, place, charge, refund, used, reset_ms, keep_ms, write (see
-- sliding.lua); renew if its charges are leases; give_back if what is given back is in several places; left_ms if its
-- windows end. Redis runs a script from its first line at every call, so each call makes only the algorithms that it
-- needs, each once. To add an algorithm, add its file here and to sidecar/src/script.rs, and its name below.

-- The algorithms made so far, by name.
local algorithms = {}

-- The algorithm called `name`.
local function algorithm_named(name)
  local algorithm = algorithms[name]
  if algorithm then
    return algorithm
  elseif name == 'sliding_window' then
    algorithm = sliding_window()
  elseif name == 'fixed_window' then
    algorithm = fixed_window(periods_of_length())
  elseif name == 'calendar_month' then
    algorithm = fixed_window(calendar_months())
  elseif name == 'calendar_window' then
    algorithm = fixed_window(calendar_windows())
  elseif name == 'token_bucket' then
    algorithm = token_bucket()
  elseif name == 'concurrency' then
    algorithm = concurrency(algorithm_named('sliding_window'))
  else
    error('unknown algorithm ' .. name)
  end
  algorithms[name] = algorithm
  return algorithm
end

-- 0 if the cost of `window` fits now, -1 if it never does, else the milliseconds until it fits if nothing more is
-- charged. A wait that outlasts a grant is one without it.
local function fit(window)
  local reading, wait = window.reading, nil
  local grants = reading.grants
  if not grants then
    return window.algorithm.fit(reading, window.capacity, window.cost)
  end
  for first = 1, #grants + 1 do
    wait = window.algorithm.fit(reading, raised(reading, window.configured, first), window.cost)
    if wait == -1 or not grants[first] or wait < grants[first][2] - grants.now then
      return wait
    end
  end
end

-- Gives back `amount` units that no reservation does, the newest first. Returns how many there were.
local function give_back(window, amount)
  local algorithm, reading = window.algorithm, window.reading
  local before = algorithm.used(reading)
  if algorithm.give_back then
    algorithm.give_back(reading, amount)
  else
    algorithm.refund(reading, algorithm.place(reading), amount)
  end
  return before - algorithm.used(reading)
end

-- Charges `amount` to `window` and adds it to its parts. An amount below 1 leaves no trace.
local function charge(window, parts, amount)
  if amount > 0 then
    add_part(parts, window.algorithm.place(window.reading), amount)
    window.algorithm.charge(window.reading, amount)
    window.is_charged = true
  end
end

-- The parts that `reserve` would charge now. Changes nothing.
local function parts_of(window)
  return window.cost > 0 and { { window.algorithm.place(window.reading), window.cost } } or {}
end

-- Charges the window's cost, whether or not it fits.
local function reserve(window)
  window.algorithm.charge(window.reading, window.cost)
  window.is_charged = window.is_charged or window.cost > 0
end

-- Charges the part of the window's cost, the cost so far of a running request, that exceeds `parts`, or renews its
-- lease. Returns the new parts. Refunds nothing, because the request may still need it. A second call with the same
-- cost changes no count.
local function extend(window, parts)
  if parts.detached then
    return parts
  end
  if window.algorithm.renew and window.cost > 0 then
    return window.algorithm.renew(window.reading, window.capacity, parts)
  end
  charge(window, parts, window.cost - total_of(parts))
  return parts
end

-- Ends a reservation that charged `parts`: charges an excess of the window's cost now, or refunds a surplus to the
-- places of its charges, the newest part first.
local function settle(window, parts)
  local excess = total_of(parts) - window.cost
  charge(window, parts, -excess)
  for p = #parts, 1, -1 do
    local amount = math.min(parts[p][2], excess)
    if amount > 0 then
      window.algorithm.refund(window.reading, parts[p][1], amount)
      excess = excess - amount
    end
  end
end

-- Keeps the charges of a request that is over and whose cost is still to come, with the part of the window's cost that
-- exceeds them. A lease ends: a renewal that was sent before and arrives later must not take a new one. Returns the new
-- parts.
local function detach(window, parts)
  if not window.algorithm.renew then
    return extend(window, parts)
  end
  window.cost = 0
  settle(window, parts)
  return { detached = true }
end
