-- prelude: the clock, the windows and the calls in the arguments, and the windows in a reply. The last file before each
-- script.
--
-- KEYS        The counter of each window; then the indexes of the identities, each once, since Lua takes long for long
--             texts; then for each call what the script says.
-- ARGV        1: now_ms, 0 for Redis's clock; 2: the number of windows, which are all different counters; 3: the number
--             of indexes; for each window seven values: algorithm, window_ms, parameter (segments, burst or
--             `<name>,<edge>,...` of a calendar, else 0), limit, 1 if the limit is enforced or 0, the place of its
--             index in KEYS, and its field in that. Then for each call: what the script says, the number of its
--             windows, and for each its number and the cost.
-- Returns     The functions below. A script replies with a list that has the reply to each call, in order.
-- Complexity  O(windows) and what each algorithm's `read` takes.
--
-- Calls that come together touch each counter once: the first call that needs a window reads it, all calls work on the
-- reading in memory, one after the other, and the script writes it at its end. So a crowd at one limit costs Redis one
-- read and one write.

-- The number of values of a window in ARGV.
local VALUES = 7

-- The place in ARGV of the first window.
local FIRST = 4

-- The script's time in milliseconds: `now_ms`, which tests pass, or, if that is 0, Redis's clock, which is the same for
-- the whole fleet.
local function clock(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local now, count = clock(tonumber(ARGV[1])), tonumber(ARGV[2])

-- The windows that have been read, by number.
local windows = {}

-- The window of this number. Read `in_force`, its limit applies from now on. A settlement passes the limit of its
-- reservation, which may be out of date.
local function window_at(number, in_force)
  local window = windows[number]
  if not window then
    local at = FIRST + VALUES * (number - 1)
    local algorithm, limit = algorithm_named(ARGV[at]), tonumber(ARGV[at + 3])
    local window_ms, parameter = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]) or ARGV[at + 2]
    local reading = algorithm.read(KEYS[number], now, window_ms, parameter, limit, in_force)
    local configured = reading.burst or limit
    window = {
      algorithm = algorithm,
      reading = reading,
      -- The most that fits at once, as the call says, and with what is granted now.
      configured = configured,
      capacity = raised(reading, configured, 1),
      enforced = ARGV[at + 4] == '1',
      arg = at,
    }
    windows[number] = window
  end
  return window
end

-- The windows of the call whose number of windows is ARGV[at], each with the call's cost.
local function windows_of(at, in_force)
  local list = {}
  for i = 1, tonumber(ARGV[at]) do
    local window = window_at(tonumber(ARGV[at + 2 * i - 1]), in_force)
    window.cost = tonumber(ARGV[at + 2 * i])
    list[i] = window
  end
  return list
end

-- The reply of a script: what reply(at, key) returns for each call. `at` is the place in ARGV of its first value, of
-- which it has `values` before its windows, and `key` is its place in KEYS.
local function reply_to_calls(values, reply)
  local replies, at, key = {}, FIRST + VALUES * count, count + tonumber(ARGV[3])
  local last = #ARGV
  while at <= last do
    key = key + 1
    replies[#replies + 1] = reply(at, key)
    at = at + values + 1 + 2 * tonumber(ARGV[at + values])
  end
  return replies
end

-- Appends used, reset_ms, retry_after_ms and what is granted of each window to `reply`.
local function report(reply, list)
  for _, window in ipairs(list) do
    local reading, size = window.reading, #reply
    reply[size + 1] = window.algorithm.used(reading)
    reply[size + 2] = window.algorithm.reset_ms(reading)
    reply[size + 3] = window.retry_after_ms
    reply[size + 4] = window.capacity - window.configured
  end
  return reply
end

-- Writes the changes of the windows that have been read. Enters each counter that gets a new expiry into its identity's
-- index (index.lua).
local function write_windows(set)
  for number = 1, count do
    if windows[number] then
      write_window(windows[number], set)
    end
  end
end
