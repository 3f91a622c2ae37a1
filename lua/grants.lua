-- grants: what an operator has added to a limit until some time. Twin of src/window/grants.rs, which argues the waits.
--
-- KEYS        None by itself: a counter's grants are a field of its hash.
-- ARGV        None.
-- Returns     The functions below. The grants of a reading (sliding.lua) are a list of {amount, end}, the first to end
--             first, with the time `now` at which none of them has ended; nil if there are none.
-- Complexity  O(grants), at most MAX_GRANTS; nothing for a counter without any.
--
-- The field `g` is <amount>:<end>,<amount>:<end>,... with ends in milliseconds since the epoch. It comes with the
-- counter's other fields, so that a limit without grants costs no command more. It outlives the counter's charges: what
-- deletes a counter writes its grants again, and no counter expires before its last grant has ended.

-- The most grants that a counter has at a time.
local MAX_GRANTS = 16

-- The most that a limit is raised to: 2^53 - 1, as the largest limit.
local MOST_RAISED = 2 ^ 53 - 1

-- Enters the grants of `text` that have not ended by `now` into `reading`, and whether others have: what has ended is
-- dropped with the next write, and does not come back if the clock steps back.
local function read_grants(reading, text, now)
  if not text then
    return
  end
  local grants, found = { now = now }, 0
  for amount, ends in string.gmatch(#text <= MAX_GRANTS * 34 and text or '', '(%d+):(%d+)') do
    amount, ends, found = whole(amount), whole(ends), found + 1
    if amount and ends and ends > now and #grants < MAX_GRANTS then
      grants[#grants + 1] = { amount, ends }
    end
  end
  table.sort(grants, function(a, b)
    return a[2] < b[2]
  end)
  reading.grants = #grants > 0 and grants or nil
  reading.grants_ended = not reading.grants or #grants < found
end

-- `capacity` with the grants of `reading` from the number `first` on. A bucket whose limit is zero admits nothing,
-- whatever is granted.
local function raised(reading, capacity, first)
  if reading.grants and not (reading.burst and reading.own_limit == 0) then
    for i = first, #reading.grants do
      capacity = math.min(capacity + reading.grants[i][1], MOST_RAISED)
    end
  end
  return capacity
end

-- Keeps the counter of `reading` for `keep_ms`, and until its last grant has ended.
local function expire_counter(reading, keep_ms)
  local grants = reading.grants
  if grants then
    keep_ms = math.max(keep_ms, grants[#grants][2] - grants.now)
  end
  redis.call('PEXPIRE', reading.key, keep_ms)
end

-- Writes the grants of `reading`, if it has any.
local function write_grants(reading)
  if reading.grants then
    local texts = {}
    for i, grant in ipairs(reading.grants) do
      texts[i] = string.format('%d:%d', grant[1], grant[2])
    end
    redis.call('HSET', reading.key, 'g', table.concat(texts, ','))
  end
end

-- Deletes the counter of `reading`, but not its grants.
local function delete_counter(reading)
  redis.call('DEL', reading.key)
  if reading.grants then
    write_grants(reading)
    expire_counter(reading, 0)
  end
end
