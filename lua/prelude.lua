-- prelude: the clock, the windows in the arguments, and the windows in a reply. The last file before each script.
--
-- KEYS        For each window its counter and its identity's index.
-- ARGV        For each window seven values: algorithm, window_ms, parameter (segments or burst, else 0), limit, cost,
--             1 if the limit is enforced or 0, field in the index.
-- Returns     The functions below.
-- Complexity  O(windows) and what each algorithm's `read` takes.

-- The script's time in milliseconds: `now_ms`, which tests pass, or, if that is 0, Redis's clock, which is the same for
-- the whole fleet.
local function clock(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Reads the windows in the arguments, with keys from KEYS[key] and values from ARGV[arg] on. If `in_force`, their
-- limits apply from now on. A settlement passes the limits of its reservation, which may be out of date.
local function read_windows(now, key, arg, in_force)
  local windows = {}
  for at = arg, #ARGV, 7 do
    local algorithm = algorithm_named(ARGV[at])
    local window_ms, parameter, limit = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    windows[#windows + 1] = {
      algorithm = algorithm,
      reading = algorithm.read(KEYS[key], now, window_ms, parameter, limit, in_force),
      limit = limit,
      cost = tonumber(ARGV[at + 4]),
      enforced = ARGV[at + 5] == '1',
      key = key,
      arg = at,
    }
    key = key + 2
  end
  return windows
end

-- Appends used, reset_ms and retry_after_ms of each window to `reply`.
local function report(reply, windows)
  for _, window in ipairs(windows) do
    reply[#reply + 1] = window.algorithm.used(window.reading)
    reply[#reply + 1] = window.algorithm.reset_ms(window.reading)
    reply[#reply + 1] = window.retry_after_ms
  end
  return reply
end
