-- reserve: charges every window or none, once per reservation.
--
-- KEYS    1: the reservation's record; then for each window its counter and its identity's index.
--         All share one hash tag.
-- ARGV    1: now_ms, 0 for Redis's clock; then for each window seven values (windows.lua).
-- Returns 1 if admitted, else 0; then for each window used (after the charge), reset_ms, retry_after_ms (0: fits,
--         -1: never, else milliseconds). Integers only. A window whose limit is not enforced does not refuse, and its
--         retry_after_ms says whether it would have.
-- Repeat  A reservation whose record is there, open or settled, is admitted and charged nothing.
-- Takes   O(windows), amortised; a refusal O(segments) for each window that refuses.
local windows = read_windows(clock(tonumber(ARGV[1])), 2, 2, true)

local fits, charged = true, {}
for i, window in ipairs(windows) do
  window.retry_after_ms = window.algorithm.fit(window.state, window.limit, window.cost)
  fits = fits and (window.retry_after_ms == 0 or not window.enforced)
  charged[i] = window.cost > 0 and { { window.algorithm.place(window.state), window.cost } } or {}
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
    window.algorithm.charge(window.state, window.cost)
  end
end
-- A refusal writes too: what has left a window is not to be visited again.
write_windows(windows, 'HSET')

return report({ (fits or known) and 1 or 0 }, windows)
