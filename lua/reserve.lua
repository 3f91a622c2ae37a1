-- reserve: charges every window or none, once per reservation.
--
-- KEYS    1: the reservation's record; then for each window its counter and its identity's index.
--         All share one hash tag.
-- ARGV    1: now_ms, 0 for Redis's clock; 2: a letter per window, e: enforced, c: counted only (charged whether or
--         not it fits, and what would have refused is told); then for each window six values (windows.lua).
-- Returns 1 if admitted, else 0; then for each window used (after the charge), reset_ms, retry_after_ms (0: fits,
--         -1: never, else milliseconds). Integers only.
-- Repeat  A reservation whose record is there, open or settled, is admitted and charged nothing.
-- Takes   O(windows), amortised; a refusal O(segments) for each window that refuses.
--
-- The record says what was charged, so that settling can give it back: for each window, in the order of KEYS, a list
-- of <segment>:<amount>, oldest first, separated by commas; windows separated by semicolons. It is kept as long as
-- a refund can still matter, within bounds.
local RECORD_MS_LEAST, RECORD_MS_MOST = 600000, 86400000

local windows = read_windows(clock(tonumber(ARGV[1])), 2, 3)

local fits, parts, record_ms = true, {}, RECORD_MS_LEAST
for i, window in ipairs(windows) do
  local algorithm, state = window.algorithm, window.state
  window.retry_after_ms = algorithm.fit(state, window.limit, window.cost)
  fits = fits and (window.retry_after_ms == 0 or string.sub(ARGV[2], i, i) == 'c')
  parts[i] = window.cost > 0 and string.format('%.0f:%.0f', algorithm.segment(state), window.cost) or ''
  record_ms = math.max(record_ms, math.min(algorithm.keep_ms(state), RECORD_MS_MOST))
end

local known
if fits then
  known = not redis.call('SET', KEYS[1], table.concat(parts, ';'), 'NX', 'PX', record_ms)
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
