-- peek: reports the state of windows and whether a cost would fit, and changes nothing.
--
-- KEYS        For each window its counter and its identity's index. All share one hash tag.
-- ARGV        1: now_ms, 0 for Redis's clock; then for each window seven values (prelude.lua).
-- Returns     For each window used, reset_ms, retry_after_ms (0: fits, -1: never, else milliseconds). Integers only.
-- Complexity  O(windows * segments) at most.
local windows = read_windows(clock(tonumber(ARGV[1])), 1, 2, true)
for _, window in ipairs(windows) do
  window.retry_after_ms = window.algorithm.fit(window.reading, window.limit, window.cost)
end
return report({}, windows)
