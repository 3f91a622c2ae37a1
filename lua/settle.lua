-- settle: replaces what a reservation charged by its final cost, once; or brings a running reservation up to date; or
-- ends the leases of one whose cost is still to come.
--
-- KEYS        The windows' counters and their identities' indexes (prelude.lua); then each call's record. All share one
--             hash tag on a cluster.
-- ARGV        The time, the windows and the calls (prelude.lua). A call's values are what to do if there is no record,
--             `ignore`, `charge` or `mark`; and `end`, `extend` if the request still runs, or `detach` if it is over
--             and its cost is still to come. A call's windows are those of its reservation, in the same order, and a
--             cost is the whole cost so far.
-- Returns     For each call 1 if it settled, extended or detached something, 2 if an extension took a window past an
--             enforced limit, and then for each window used (after that), reset_ms, 0, and what is granted; else 0
--             alone; or, as a text, what is wrong, if the reservation had another number of windows. Integers only.
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

-- Whether one of `list` is past its enforced limit.
local function is_past_a_limit(list)
  for _, window in ipairs(list) do
    if window.enforced and window.algorithm.used(window.reading) > window.capacity then
      return true
    end
  end
  return false
end

local replies = reply_to_calls(2, function(at, key)
  key = KEYS[key]
  local record, is_foreign = try('GET', key)
  record = not is_foreign and record
  local if_absent, still_runs, is_detached = ARGV[at], ARGV[at + 1] == 'extend', ARGV[at + 1] == 'detach'
  if record == SETTLED or not record and if_absent ~= 'charge' then
    if not record and if_absent == 'mark' then
      redis.call('SET', key, SETTLED, 'PX', SETTLED_MS)
    end
    return 0
  end

  local charged, size = record and read_record(record) or {}, tonumber(ARGV[at + 2])
  if record and #charged ~= size then
    return 'the reservation has ' .. #charged .. ' windows, the settlement ' .. size
  end
  local list = windows_of(at + 2, false)
  for i, window in ipairs(list) do
    window.retry_after_ms = 0
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
    write_record(key, list, charged, record and 'XX' or 'NX')
  elseif if_absent ~= 'ignore' then
    redis.call('SET', key, SETTLED, 'PX', SETTLED_MS)
  else
    redis.call('DEL', key)
  end
  return report({ still_runs and is_past_a_limit(list) and 2 or 1 }, list)
end)
write_windows('HSETNX')
return replies
