-- settle: replaces what a reservation charged by what it really cost, once; or brings one that still runs up to date.
--
-- KEYS    1: the reservation's record; then for each window its counter and its identity's index, in the order of the
--         reservation. All share one hash tag.
-- ARGV    1: now_ms, 0 for Redis's clock; 2: what to do if there is no record, `ignore` or `charge`; 3: `end`, or
--         `extend` if it still runs; then for each window seven values (windows.lua), of which cost is all that it has
--         cost so far.
-- Returns 1 if it settled or extended something, 2 if an extension took a window past a limit that is enforced, else 0.
--         An error if the reservation had another number of windows.
-- Repeat  The record is gone after settling, so a second time finds nothing to do. With `charge`, where no record
--         means that the reservation is not known to have arrived, a mark is left instead: it stops both a second
--         settlement and a reservation that comes late. Extending leaves a record of all that was charged, so a second
--         time charges nothing.
-- Takes   O(windows), amortised.
--
-- An excess is charged now and may take a counter above its limit. What was too much goes back to where it was
-- charged, newest part first, while that is in the window; after a reset of the counter it may find others' charges
-- there, and takes at most what there is. While a reservation runs, nothing goes back and its leases begin anew.
local record = redis.call('GET', KEYS[1])
local if_absent, extend = ARGV[2], ARGV[3] == 'extend'
if record == SETTLED or not record and if_absent ~= 'charge' then
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
  charged[i] = parts
  local total = total_of(parts)
  if extend and window.algorithm.renew then
    if window.cost > 0 then
      charged[i] = window.algorithm.renew(window.state, window.limit, parts)
    end
  elseif window.cost > total then
    charge_part(window, parts, window.cost - total)
  elseif not extend then
    local excess = total - window.cost
    for p = #parts, 1, -1 do
      local amount = math.min(parts[p][2], excess)
      if amount > 0 then
        window.algorithm.refund(window.state, parts[p][1], amount)
        excess = excess - amount
      end
    end
  end
end

if extend then
  write_record(KEYS[1], windows, charged, record and 'XX' or 'NX')
elseif if_absent == 'charge' then
  redis.call('SET', KEYS[1], SETTLED, 'PX', SETTLED_MS)
else
  redis.call('DEL', KEYS[1])
end
write_windows(windows, 'HSETNX')

if extend then
  for _, window in ipairs(windows) do
    if window.enforced and window.algorithm.used(window.state) > (window.state.burst or window.limit) then
      return 2
    end
  end
end
return 1
