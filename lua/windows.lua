-- What the scripts share: the clock, the windows that a call names, and their index. It is put in front of each
-- script, after the algorithms of lua/window/, when the sidecar is compiled.
--
-- An algorithm is a table of functions (read, fit, segment, charge, refund, used, reset_ms, keep_ms, write: see
-- lua/window/sliding.lua). A new one is a file in lua/window/ and a line here.
local algorithms = {
  sliding_window = sliding,
}

-- What a settled reservation leaves under its record's key when a late reserve must find it, and for how long.
local SETTLED = 'settled'
local SETTLED_MS = 600000

-- The script's time in milliseconds: Redis's own clock, one for the fleet, unless `now_ms` is not 0. Tests pass it.
local function clock(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The windows that a call names, read. Each has a counter key and an index key in KEYS, from `key` on, and six
-- arguments in ARGV, from `arg` on: algorithm, window_ms, segments, limit, cost, field in the index.
local function read_windows(now, key, arg)
  local windows = {}
  for at = arg, #ARGV, 6 do
    local algorithm = algorithms[ARGV[at]]
    if not algorithm then
      error('unknown algorithm ' .. ARGV[at])
    end
    local window_ms, segments = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    windows[#windows + 1] = {
      algorithm = algorithm,
      state = algorithm.read(KEYS[key], now, window_ms, segments),
      limit = tonumber(ARGV[at + 3]),
      cost = tonumber(ARGV[at + 4]),
      index = KEYS[key + 1],
      arg = at,
    }
    key = key + 2
  end
  return windows
end

-- Writes what has changed. A window that begins a segment is entered into its identity's index, which lets its
-- windows be listed without SCAN and lives at least as long as they do. `set` is HSET, or HSETNX where the limit is
-- not known for sure.
local function write_windows(windows, set)
  for _, window in ipairs(windows) do
    if window.algorithm.write(window.state) then
      -- The entry is the window's first four arguments.
      redis.call(set, window.index, ARGV[window.arg + 5], table.concat(ARGV, ' ', window.arg, window.arg + 3))
      local keep_ms = window.algorithm.keep_ms(window.state)
      if redis.call('PTTL', window.index) < keep_ms then
        redis.call('PEXPIRE', window.index, keep_ms)
      end
    end
  end
end

-- Appends used, reset_ms and retry_after_ms of each window to `reply`.
local function report(reply, windows)
  for _, window in ipairs(windows) do
    reply[#reply + 1] = window.algorithm.used(window.state)
    reply[#reply + 1] = window.algorithm.reset_ms(window.state)
    reply[#reply + 1] = window.retry_after_ms
  end
  return reply
end
