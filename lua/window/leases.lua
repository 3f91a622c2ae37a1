-- concurrency(sliding): requests in flight, each with a lease. Twin of src/window/leases.rs, which argues the
-- arithmetic.
--
-- KEYS        None by itself: `read` takes the counter's key.
-- ARGV        None by itself: `read` takes window_ms, the length of a lease.
-- Returns     An algorithm: the functions of `sliding`, the algorithm of sliding windows, with a `read` of its own and
--             `renew`.
-- Complexity  That of sliding.lua with 60 segments.
--
-- A lease is one unit in a sliding window of the lease's length, refunded when the request is over. Hence the hash is
-- that of a sliding window, whatever the number of slots.
local function concurrency(sliding)
  local SEGMENTS = 60

  -- Reads the leases under `key`.
  local function read(key, now, window_ms)
    return sliding.read(key, now, window_ms, SEGMENTS)
  end

  -- Starts the lease at `parts` anew and returns its new parts. If that has ended or never existed, takes a new one if
  -- a slot of `limit` is free.
  local function renew(reading, limit, parts)
    local last = parts[#parts]
    if last and sliding.count(reading, last[1]) > 0 then
      sliding.refund(reading, last[1], 1)
    elseif sliding.fit(reading, limit, 1) ~= 0 then
      return parts
    end
    sliding.charge(reading, 1)
    return { { sliding.place(reading), 1 } }
  end

  return {
    read = read,
    renew = renew,
    fit = sliding.fit,
    place = sliding.place,
    charge = sliding.charge,
    refund = sliding.refund,
    give_back = sliding.give_back,
    used = sliding.used,
    reset_ms = sliding.reset_ms,
    keep_ms = sliding.keep_ms,
    write = sliding.write,
  }
end
