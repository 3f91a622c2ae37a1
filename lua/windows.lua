-- What the scripts share: the clock, the windows that a call names, their index, and the records of reservations. It is
-- put in front of each script, after the algorithms of lua/window/, when the sidecar is compiled.
--
-- An algorithm is a table of functions (read, fit, place, charge, refund, used, reset_ms, keep_ms, write: see
-- lua/window/sliding.lua; renew if its charges are leases). Here is what makes them: Redis runs a script from its first
-- line at every call, so only the algorithms that a call names are made. A new one is a file in lua/window/ and a line
-- here.
local makers = {
  sliding_window = sliding_window,
  fixed_window = fixed_window,
  calendar_month = calendar_month,
  token_bucket = token_bucket,
  concurrency = concurrency,
}
local algorithms = {}

-- What a settled reservation leaves under its record's key when a late reserve must find it, and for how long.
local SETTLED = 'settled'
local SETTLED_MS = 600000

-- A record is kept as long as a refund can still matter, within these bounds.
local RECORD_MS_LEAST, RECORD_MS_MOST = 600000, 86400000

-- The most parts of a reservation that are told apart in one window; see src/window/parts.rs.
local MOST_PARTS = 16

-- The script's time in milliseconds: Redis's own clock, one for the fleet, unless `now_ms` is not 0. Tests pass it.
local function clock(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The windows that a call names, read. Each has a counter key and an index key in KEYS, from `key` on, and seven
-- arguments in ARGV, from `arg` on: algorithm, window_ms, parameter (segments or burst, else 0), limit, cost, 1 if the
-- limit is enforced or 0, field in the index. The limits are in force from now on if `in_force`; a settlement's are
-- those that were in force when the reservation was made.
local function read_windows(now, key, arg, in_force)
  local windows = {}
  for at = arg, #ARGV, 7 do
    local name = ARGV[at]
    local algorithm = algorithms[name]
    if not algorithm then
      local make = makers[name] or error('unknown algorithm ' .. name)
      algorithm = make()
      algorithms[name] = algorithm
    end
    local window_ms, parameter, limit = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    windows[#windows + 1] = {
      algorithm = algorithm,
      state = algorithm.read(KEYS[key], now, window_ms, parameter, limit, in_force),
      limit = limit,
      cost = tonumber(ARGV[at + 4]),
      enforced = ARGV[at + 5] == '1',
      index = KEYS[key + 1],
      field = ARGV[at + 6],
      entry = table.concat({ ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] }, ' '),
    }
    key = key + 2
  end
  return windows
end

-- Writes what has changed. A window whose expiry is set anew is entered into its identity's index, which lets its
-- windows be listed without SCAN and lives at least as long as they do. `set` is HSET, or HSETNX where the limit is
-- not known for sure.
local function write_windows(windows, set)
  for _, window in ipairs(windows) do
    if window.algorithm.write(window.state) then
      redis.call(set, window.index, window.field, window.entry)
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

-- A reservation's record says what was charged where, so that it can be given back: for each window, in the order of
-- KEYS, a list of <place>:<amount>, oldest first, separated by commas; windows separated by semicolons. In memory a
-- window's list is its parts, each {place, amount}.

-- Charges `amount` to `window` and adds it to its parts.
local function charge_part(window, parts, amount)
  if amount <= 0 then
    return
  end
  local place, last = window.algorithm.place(window.state), parts[#parts]
  if last and last[1] == place then
    last[2] = last[2] + amount
  else
    parts[#parts + 1] = { place, amount }
  end
  if #parts > MOST_PARTS then
    local oldest = table.remove(parts, 1)
    parts[1] = { oldest[1], oldest[2] + parts[1][2] }
  end
  window.algorithm.charge(window.state, amount)
end

-- The units in `parts`.
local function total_of(parts)
  local total = 0
  for _, part in ipairs(parts) do
    total = total + part[2]
  end
  return total
end

-- Reads a record: the parts of each window.
local function read_record(record)
  local charged = {}
  for list in string.gmatch(record .. ';', '([^;]*);') do
    local parts = {}
    for place, amount in string.gmatch(list, '(%d+):(%d+)') do
      parts[#parts + 1] = { tonumber(place), tonumber(amount) }
    end
    charged[#charged + 1] = parts
  end
  return charged
end

-- Writes a record of what `windows` were charged: `how` is XX to replace one, NX to write it only where there is none.
-- Returns whether it was written.
local function write_record(key, windows, charged, how)
  local lists, keep_ms = {}, RECORD_MS_LEAST
  for i, window in ipairs(windows) do
    local list = {}
    for p, part in ipairs(charged[i]) do
      list[p] = string.format('%.0f:%.0f', part[1], part[2])
    end
    lists[i] = table.concat(list, ',')
    keep_ms = math.max(keep_ms, math.min(window.algorithm.keep_ms(window.state), RECORD_MS_MOST))
  end
  return redis.call('SET', key, table.concat(lists, ';'), 'PX', keep_ms, how) and true or false
end
