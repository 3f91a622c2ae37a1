-- peek: reports the state of windows and whether a cost would fit, and changes nothing.
--
-- KEYS        The windows' counters and their identities' indexes (prelude.lua). All share one hash tag on a cluster.
-- ARGV        The time, the windows and the calls (prelude.lua). A call has no values before its windows.
-- Returns     For each call, for each of its windows used, reset_ms, retry_after_ms (0: fits, -1: never, else
--             milliseconds), and the units that are granted beyond its limit. Integers only.
-- Complexity  O(windows * segments) at most.
return reply_to_calls(0, function(at)
  local list = windows_of(at, true)
  for _, window in ipairs(list) do
    window.retry_after_ms = fit(window)
  end
  return report({}, list)
end)
