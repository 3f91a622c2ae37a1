-- reserve: charges every window of a reservation or none, once per reservation.
--
-- KEYS        The windows' counters and their identities' indexes (prelude.lua); then each call's record. All share one
--             hash tag on a cluster.
-- ARGV        The time, the windows and the calls (prelude.lua). A call's values are `any`, or `tell` to be told
--             whether the identity is new, or `known` to reserve nothing if it is; and `open` if a settlement follows,
--             or `final`.
-- Returns     For each call: 1 if admitted, else 0, and 2 more if the identity is new and that was asked; then
--             for each window used (after the charge), reset_ms, retry_after_ms (0: fits, -1: never, else
--             milliseconds), and the units that are granted beyond its limit. For a new identity and `known`, 2 alone.
--             Integers only. A limit that is not enforced does not refuse, and its retry_after_ms reports whether it
--             would have.
-- Complexity  O(windows), amortised; a refusal O(segments) for each window that refuses.
--
-- A repeated reservation, which finds its record or the mark of its settlement, is admitted and charges nothing. An
-- identity is new if it has no counters, and this reservation has neither record nor mark. All windows of the call are
-- of one identity then.

-- Whether the identity of the call whose number of windows is ARGV[at] is new.
local function is_new_identity(record, at)
  local first = tonumber(ARGV[at + 1])
  local is_charged = windows[first] and windows[first].is_charged
  return not is_charged and redis.call('EXISTS', record, KEYS[first]) == 0
end

local replies = reply_to_calls(2, function(at, key)
  local record, is_new = KEYS[key], ARGV[at] ~= 'any' and is_new_identity(KEYS[key], at + 2)
  if is_new and ARGV[at] == 'known' then
    return { 2 }
  end

  local list, fits, charged = windows_of(at + 2, true), true, {}
  for i, window in ipairs(list) do
    window.retry_after_ms = fit(window)
    fits = fits and (window.retry_after_ms == 0 or not window.enforced)
    charged[i] = parts_of(window)
  end

  local known
  if fits then
    known = not write_record(record, list, charged, 'NX', ARGV[at + 1] == 'final')
  else
    known = redis.call('EXISTS', record) == 1
  end

  for _, window in ipairs(list) do
    if known then
      window.retry_after_ms = 0
    elseif fits then
      reserve(window)
    end
  end
  return report({ ((fits or known) and 1 or 0) + (is_new and 2 or 0) }, list)
end)
-- A refusal writes too, so that no later call visits the segments again that have left a window.
write_windows('HSET')
return replies
