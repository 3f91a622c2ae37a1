-- index: the list of an identity's windows, and the writing of a changed window.
--
-- KEYS        The indexes of the identities (prelude.lua).
-- ARGV        For each window the place of its index, its field there and, for the entry, its first four values
--             (prelude.lua).
-- Returns     The function below.
-- Complexity  What each algorithm's `write` takes.
--
-- The index is a hash that lists an identity's windows without SCAN: for each window a field <name>:<label> with the
-- entry <algorithm> <window_ms> <parameter> <limit>.

-- Enters the counter of `window` into its identity's index, which lives at least as long as its counters. `set` is
-- HSET, or HSETNX if the limit may be out of date.
local function enter(window, set)
  local at = window.arg
  local key, field = KEYS[tonumber(ARGV[at + 5])], ARGV[at + 6]
  local entry = table.concat(ARGV, ' ', at, at + 3)
  local _, is_foreign = try(set, key, field, entry)
  if is_foreign then
    redis.call('DEL', key)
    redis.call(set, key, field, entry)
  end
  local keep_ms, grants = window.algorithm.keep_ms(window.reading), window.reading.grants
  if grants then
    keep_ms = math.max(keep_ms, grants[#grants][2] - grants.now)
  end
  if redis.call('PTTL', key) < keep_ms then
    redis.call('PEXPIRE', key, keep_ms)
  end
end

-- Writes the changes of `window`, and enters a counter that gets a new expiry into its identity's index.
local function write_window(window, set)
  if window.algorithm.write(window.reading) then
    enter(window, set)
  end
  if window.reading.grants_ended and window.reading.grants then
    write_grants(window.reading)
  elseif window.reading.grants_ended then
    redis.call('HDEL', window.reading.key, 'g')
  end
end
