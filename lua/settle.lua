-- settle: replaces what a reservation charged by its final cost, once; or brings a running reservation up to date; or
-- ends the leases of one whose cost is still to come.
--
-- KEYS        1: the reservation's record; then for each window its counter and its identity's index, in the order of
--             the reservation. All share one hash tag.
-- ARGV        1: now_ms, 0 for Redis's clock; 2: what to do if there is no record, `ignore`, `charge` or `mark`; 3:
--             `end`, `extend` if the request still runs, or `detach` if it is over and its cost is still to come; then
--             for each window seven values (prelude.lua), of which cost is the whole cost so far.
-- Returns     1 if it settled, extended or detached something, 2 if an extension took a window past an enforced limit,
--             else 0. An error if the reservation had another number of windows.
-- Complexity  O(windows), amortised.
--
-- A repeated settlement changes nothing: settling removes the record. With `charge`, a missing record means that the
-- reservation may not have arrived yet, so settling leaves a mark, which stops both a second settlement and a late
-- reservation. `mark` leaves the same mark, and charges nothing if there is no record. A repeated extension charges
-- nothing: the record has all charges so far.
--
-- An excess is charged now and may take a counter above its limit. A refund goes back to the place of the charge,
-- newest part first, while that place is in the window. After a reset of the counter, other requests may have charged
-- the same place; a refund takes at most what is there. An extension refunds nothing and renews leases; detaching
-- refunds nothing but the leases.
local record, is_foreign = try('GET', KEYS[1])
record = not is_foreign and record
local if_absent, still_runs, is_detached = ARGV[2], ARGV[3] == 'extend', ARGV[3] == 'detach'
if record == SETTLED or not record and if_absent ~= 'charge' then
  if not record and if_absent == 'mark' then
    redis.call('SET', KEYS[1], SETTLED, 'PX', SETTLED_MS)
  end
  return 0
end

local windows = read_windows(clock(tonumber(ARGV[1])), 2, 4, false)
local charged = record and read_record(record) or {}
if record and #charged ~= #windows then
  return redis.error_reply(
    'ERR the reservation has ' .. #charged .. ' windows, the settlement ' .. #windows)
end

for i, window in ipairs(windows) do
  local parts = charged[i] or {}
  if still_runs then
    charged[i] = extend(window, parts)
  elseif is_detached then
    charged[i] = detach(window, parts)
  else
    settle(window, parts)
  end
end

if still_runs or is_detached then
  write_record(KEYS[1], windows, charged, record and 'XX' or 'NX')
elseif if_absent ~= 'ignore' then
  redis.call('SET', KEYS[1], SETTLED, 'PX', SETTLED_MS)
else
  redis.call('DEL', KEYS[1])
end
write_windows(windows, 'HSETNX')

if still_runs then
  for _, window in ipairs(windows) do
    -- The capacity of a bucket is its burst, whatever its limit.
    local capacity = window.reading.burst or window.limit
    if window.enforced and window.algorithm.used(window.reading) > capacity then
      return 2
    end
  end
end
return 1
