-- counter: a counter of any algorithm, and what a reservation does to it from its beginning to its end. Twin of
-- src/window/counter.rs. The arithmetic is in the files of the algorithms.
--
-- KEYS        None by itself.
-- ARGV        None by itself: `algorithm_named` is given an algorithm's name.
-- Returns     The functions below. A `window` is one of those that `read_windows` returns (prelude.lua), `parts` are a
--             reservation's charges to it (record.lua).
-- Complexity  O(parts), at most MAX_PARTS, and what the algorithm's functions take.
--
-- An algorithm is a table of functions: read, fit, place, charge, refund, used, reset_ms, keep_ms, write (see
-- sliding.lua), and renew if its charges are leases. Redis runs a script from its first line at every call, so a call
-- makes only the algorithms that it names, each once. A new algorithm is a file, its name here and its file in
-- sidecar/src/script.rs.

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

-- Charges `amount` to `window` and adds it to its parts. An amount below 1 leaves no trace.
local function charge(window, parts, amount)
  if amount > 0 then
    add_part(parts, window.algorithm.place(window.reading), amount)
    window.algorithm.charge(window.reading, amount)
  end
end

-- The parts of a reservation of the window's cost that `reserve` would charge now. It changes nothing.
local function parts_of(window)
  return window.cost > 0 and { { window.algorithm.place(window.reading), window.cost } } or {}
end

-- Charges the window's cost, whether or not it fits.
local function reserve(window)
  window.algorithm.charge(window.reading, window.cost)
end

-- Charges what a running reservation costs by now beyond its `parts`, or renews its lease, and returns its new parts.
-- Nothing is given back: the request may need it yet. Doing so again with the same cost changes no count.
local function extend(window, parts)
  if window.algorithm.renew and window.cost > 0 then
    return window.algorithm.renew(window.reading, window.limit, parts)
  end
  charge(window, parts, window.cost - total_of(parts))
  return parts
end

-- Ends a reservation that charged `parts`: charges an excess of the window's cost now, or gives back what was too much
-- to where it was charged, the newest part first.
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
