-- record: a reservation's record, which lists its charges and their places, so that they can be refunded.
--
-- KEYS        None by itself: `write_record` takes the record's key.
-- ARGV        None.
-- Returns     The functions below. Parts are a list of {place, amount}, oldest first.
-- Complexity  O(parts), at most MAX_PARTS for each window.
--
-- The record is a string: for each window, in the order of KEYS, a list of <place>:<amount>, oldest first, separated by
-- commas; semicolons separate the windows. A dash in the place of a list is a lease that has ended before its
-- reservation. Twin of src/window/parts.rs.

-- The mark that a settlement leaves under its record's key if the reservation may still arrive, and its lifetime.
local SETTLED, SETTLED_MS = 'settled', 600000

-- The lifetime of the record of a reservation that is not to be settled: as long as it may be repeated, or undone
-- because its request is not served.
local FINAL_RECORD_MS = 60000

-- The shortest and the longest lifetime of any other. Between them, it lives as long as a refund can matter.
local MIN_RECORD_MS, MAX_RECORD_MS = 600000, 86400000

-- The most parts of one reservation in one window. Beyond that, the two oldest become one at the place of the older.
local MAX_PARTS = 16

-- The units in `parts`.
local function total_of(parts)
  local total = 0
  for _, part in ipairs(parts) do
    total = total + part[2]
  end
  return total
end

-- Adds a charge of `amount` at `place` to `parts`.
local function add_part(parts, place, amount)
  local last = parts[#parts]
  if last and last[1] == place then
    last[2] = last[2] + amount
  else
    parts[#parts + 1] = { place, amount }
  end
  if #parts > MAX_PARTS then
    local oldest = table.remove(parts, 1)
    parts[1] = { oldest[1], oldest[2] + parts[1][2] }
  end
end

-- Reads a record: the parts of each window.
local function read_record(record)
  local charged = {}
  for list in string.gmatch(record .. ';', '([^;]*);') do
    local parts = {}
    for place, amount in string.gmatch(list, '(%d+):(%d+)') do
      parts[#parts + 1] = { tonumber(place), tonumber(amount) }
    end
    parts.detached = list == '-' or nil
    charged[#charged + 1] = parts
  end
  return charged
end

-- Writes the record of the parts `charged` to `windows`. `how` is XX to replace a record, or NX to write one only if
-- there is none. Returns whether it wrote the record.
local function write_record(key, windows, charged, how, is_final)
  local lists, keep_ms = {}, MIN_RECORD_MS
  for i, window in ipairs(windows) do
    local list = {}
    for p, part in ipairs(charged[i]) do
      list[p] = string.format('%d:%d', part[1], part[2])
    end
    lists[i] = charged[i].detached and '-' or table.concat(list, ',')
    keep_ms = math.max(keep_ms, math.min(window.algorithm.keep_ms(window.reading), MAX_RECORD_MS))
  end
  keep_ms = is_final and FINAL_RECORD_MS or keep_ms
  return redis.call('SET', key, table.concat(lists, ';'), 'PX', decimals(keep_ms), how) and true or false
end
