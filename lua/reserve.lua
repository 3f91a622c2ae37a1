-- reserve: charges every window or none, once per reservation.
--
-- KEYS        1: the reservation's record; then for each window its counter and its identity's index. All share one
--             hash tag.
-- ARGV        1: now_ms, 0 for Redis's clock; 2: `any`, or `tell` to be told whether the identity is new, or `known` to
--             reserve nothing if it is; then for each window seven values (prelude.lua).
-- Returns     1 if admitted, else 0, and 2 more if the identity is new and ARGV[2] is not `any`; then for each window
--             used (after the charge), reset_ms, retry_after_ms (0: fits, -1: never, else milliseconds). For a new
--             identity and `known`, 2 alone. Integers only. A limit that is not enforced does not refuse, and its
--             retry_after_ms reports whether it would have.
-- Complexity  O(windows), amortised; a refusal O(segments) for each window that refuses.
--
-- A repeated reservation, which finds its record or the mark of its settlement, is admitted and charges nothing. An
-- identity is new if it has no counters, and this reservation has neither record nor mark. All windows are of one
-- identity then.
local is_new = ARGV[2] ~= 'any' and redis.call('EXISTS', KEYS[1], KEYS[3]) == 0
if is_new and ARGV[2] == 'known' then
  return { 2 }
end

local windows = read_windows(clock(tonumber(ARGV[1])), 2, 3, true)

local fits, charged = true, {}
for i, window in ipairs(windows) do
  window.retry_after_ms = window.algorithm.fit(window.reading, window.limit, window.cost)
  fits = fits and (window.retry_after_ms == 0 or not window.enforced)
  charged[i] = parts_of(window)
end

local known
if fits then
  known = not write_record(KEYS[1], windows, charged, 'NX')
else
  known = redis.call('EXISTS', KEYS[1]) == 1
end

for _, window in ipairs(windows) do
  if known then
    window.retry_after_ms = 0
  elseif fits then
    reserve(window)
  end
end
-- A refusal writes too, so that no later call visits the segments again that have left a window.
write_windows(windows, 'HSET')

return report({ ((fits or known) and 1 or 0) + (is_new and 2 or 0) }, windows)
