-- settle: replaces what a reservation charged by what it really cost, once.
--
-- KEYS    1: the reservation's record; then for each window its counter and its identity's index, in the order of the
--         reservation. All share one hash tag.
-- ARGV    1: now_ms, 0 for Redis's clock; 2: what to do if there is no record, `ignore` or `charge`; then for each
--         window six values (windows.lua), of which cost is the real one and limit does not matter.
-- Returns 1 if it settled something, else 0. An error if the reservation had another number of windows.
-- Repeat  The record is gone after settling, so a second time finds nothing to do. With `charge`, where no record
--         means that the reservation is not known to have arrived, a mark is left instead: it stops both a second
--         settlement and a reservation that comes late.
-- Takes   O(windows), amortised.
--
-- An excess is charged now and may take a counter above its limit. What was too much goes back to where it was
-- charged, newest part first, while that is in the window. After a reset of the counter it may find others' charges
-- there, and takes at most what there is.
local record = redis.call('GET', KEYS[1])
local if_absent = ARGV[2]
if record == SETTLED or not record and if_absent ~= 'charge' then
  return 0
end

local windows = read_windows(clock(tonumber(ARGV[1])), 2, 3)

-- For each window what was charged: a list of {segment, amount}.
local charged = {}
if record then
  for list in string.gmatch(record .. ';', '([^;]*);') do
    local parts = {}
    for segment, amount in string.gmatch(list, '(%d+):(%d+)') do
      parts[#parts + 1] = { tonumber(segment), tonumber(amount) }
    end
    charged[#charged + 1] = parts
  end
  if #charged ~= #windows then
    return redis.error_reply(
      'ERR the reservation has ' .. #charged .. ' windows, the settlement ' .. #windows)
  end
end

for i, window in ipairs(windows) do
  local parts = charged[i] or {}
  local total = 0
  for _, part in ipairs(parts) do
    total = total + part[2]
  end
  if window.cost > total then
    window.algorithm.charge(window.state, window.cost - total)
  end
  local excess = total - window.cost
  for p = #parts, 1, -1 do
    local segment, amount = parts[p][1], math.min(parts[p][2], excess)
    if amount <= 0 then
      break
    end
    window.algorithm.refund(window.state, segment, amount)
    excess = excess - amount
  end
end
write_windows(windows, 'HSETNX')

if if_absent == 'charge' then
  redis.call('SET', KEYS[1], SETTLED, 'PX', SETTLED_MS)
else
  redis.call('DEL', KEYS[1])
end
return 1
