-- Requests in flight: the same arithmetic as src/window/leases.rs, which argues it.
--
-- A lease is one unit in a sliding window of the lease's length in 60 segments, given back when the request is over.
-- Hence the hash is a sliding window's, whatever the number of slots.
local function concurrency()
  local LEASE_SEGMENTS = 60

  local sliding = sliding_window()
  local leases = {}
  for name, what in pairs(sliding) do
    leases[name] = what
  end

  -- Reads the leases under `key`.
  function leases.read(key, now, window_ms)
    return sliding.read(key, now, window_ms, LEASE_SEGMENTS)
  end

  -- Lets the lease at `parts` begin anew and returns its new parts. One that has ended, or never was, is taken if a
  -- slot of `limit` is free.
  function leases.renew(window, limit, parts)
    local last = parts[#parts]
    if last and sliding.count(window, last[1]) > 0 then
      sliding.refund(window, last[1], 1)
    elseif sliding.fit(window, limit, 1) ~= 0 then
      return parts
    end
    sliding.charge(window, 1)
    return { { sliding.place(window), 1 } }
  end

  return leases
end
