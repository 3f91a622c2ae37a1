-- index: the list of an identity's windows, and the writing of changed windows.
--
-- KEYS        For each window its identity's index, next to its counter (prelude.lua).
-- ARGV        For each window its field in the index and, for the entry, its first four values (prelude.lua).
-- Returns     The function below.
-- Complexity  O(windows) and what each algorithm's `write` takes.
--
-- The index is a hash that lists an identity's windows without SCAN: for each window a field <name>:<label> with the
-- entry <algorithm> <window_ms> <parameter> <limit>.

-- Writes the changes of `windows`. Enters each counter that gets a new expiry into its identity's index, which lives at
-- least as long as its counters. `set` is HSET, or HSETNX if the limit may be out of date.
local function write_windows(windows, set)
  for _, window in ipairs(windows) do
    if window.algorithm.write(window.reading) then
      local key, at = KEYS[window.key + 1], window.arg
      local entry = table.concat(ARGV, ' ', at, at + 3)
      local _, is_foreign = try(set, key, ARGV[at + 6], entry)
      if is_foreign then
        redis.call('DEL', key)
        redis.call(set, key, ARGV[at + 6], entry)
      end
      local keep_ms = window.algorithm.keep_ms(window.reading)
      if redis.call('PTTL', key) < keep_ms then
        redis.call('PEXPIRE', key, keep_ms)
      end
    end
  end
end
