-- sliding_window(): the sliding window on a Redis hash. Twin of src/window/sliding.rs, which argues the arithmetic.
--
-- KEYS        None by itself: `read` takes the counter's key.
-- ARGV        None by itself: `read` takes window_ms and the number of segments.
-- Returns     An algorithm, the table of functions below. `read` returns a reading, the first argument of all others.
-- Complexity  Amortised O(1) for read, charge, refund and write, which visit each segment once, when it leaves. fit is
--             O(1) if the cost fits, else it walks from the oldest segment as far as it must, at most segments + 1.
--
-- A window consists of segments of ceil(window_ms / segments), aligned to the epoch. A unit charged in segment i counts
-- until segment i + segments + 1 begins. The hash holds
--   s          four numbers: the total of all segments; the oldest segment that may have charges; the last segment
--              charged; how far the counter's time is ahead of the clock, in milliseconds, 0 until the clock steps back
--   <number>   the units charged in that segment, less refunds
--   g          its grants (grants.lua)
--
-- A script reads each counter once, works in memory and writes once, so that it can check every window before it
-- charges any. The four numbers are one field, because a script spends more time on each field than Redis.
local function sliding_window()
  -- The most segments that one command reads or deletes: far below Lua's limit on the results of `unpack`.
  local SEGMENTS_AT_ONCE = 100

  -- Reads the counts of from..to that are not known yet. A segment that Redis does not have is false.
  local function learn(reading, from, to)
    local names = {}
    for segment = from, to do
      if reading.counts[segment] == nil then
        names[#names + 1] = decimals(segment)
      end
    end
    if #names > 0 and not reading.emptied then
      local counts = redis.call('HMGET', reading.key, unpack(names))
      for i, name in ipairs(names) do
        reading.counts[tonumber(name)] = counts[i] and (whole(counts[i]) or 0)
      end
    end
  end

  -- Calls visit(segment, count) for each segment of from..to that exists, oldest first, until visit returns true. The
  -- first batch is small because most walks that may stop early do.
  local function each_segment(reading, from, to, visit)
    local size = 16
    while from <= to do
      local last = math.min(from + size - 1, to)
      learn(reading, from, last)
      for segment = from, last do
        local count = reading.counts[segment]
        if count and visit(segment, count) then
          return
        end
      end
      from = from + size
      size = SEGMENTS_AT_ONCE
    end
  end

  -- Makes the counter of `reading` a new one, whose time is the clock's.
  local function forget(reading, now)
    reading.emptied, reading.moved = true, false
    reading.total, reading.first, reading.last, reading.lead, reading.now = 0, nil, nil, 0, now
    reading.current, reading.counts = math.floor(now / reading.segment_ms), {}
  end

  -- Reads the counter under `key` and drops, in memory, the segments that have left the window by `now`. If the clock
  -- has stepped back, the counter's time goes on from the beginning of the last segment charged. Walks begin at most
  -- one window before that segment, whatever the hash holds.
  local function read(key, now, window_ms, segments)
    local segment_ms = math.ceil(window_ms / segments)
    local by_clock = math.floor(now / segment_ms)
    local fields, is_foreign = try('HMGET', key, 's', decimals(by_clock), 'g')
    local reading = {
      key = key,
      now = now,
      lead = 0,
      segment_ms = segment_ms,
      segments = segments,
      total = 0,
      current = by_clock,
      counts = {}, -- the counts that are known, by segment; false for one that does not exist
      dirty = {}, -- segments with a count to write
      left = {}, -- segments to delete
    }
    read_grants(reading, fields[3], now)
    local total, first, last, lead = whole_numbers(fields[1])
    if not total or (last + segments + 2) * segment_ms >= 2 ^ 52 then
      forget(reading, now)
      -- A key that does not exist needs no deletion.
      reading.emptied = is_foreign or fields[1] or fields[2]
      reading.oldest = math.max(reading.current - segments, 0)
      return reading
    end
    reading.total, reading.last = total, last
    reading.first = math.max(first <= last and first or 0, last - segments, 0)
    reading.lead, reading.now =
      counter_time(math.min(lead, 2 ^ 52), now, last * segment_ms, math.min(segment_ms, 60000))
    reading.moved = reading.lead ~= lead
    reading.current = math.max(math.floor(reading.now / segment_ms), last)
    if reading.current == by_clock then
      reading.counts[by_clock] = whole(fields[2])
    else
      reading.counts[reading.current] = whole(redis.call('HGET', key, decimals(reading.current)))
    end
    reading.oldest = math.max(reading.current - segments, 0)
    if last < reading.oldest then
      forget(reading, now)
      reading.oldest = math.max(reading.current - segments, 0)
    elseif reading.first < reading.oldest then
      each_segment(reading, reading.first, reading.oldest - 1, function(segment, count)
        reading.total = math.max(reading.total - count, 0)
        reading.left[#reading.left + 1] = decimals(segment)
      end)
      reading.first = reading.oldest
      reading.moved = true
    end
    return reading
  end

  -- The time at which a unit charged in `segment` leaves, in milliseconds since the epoch.
  local function leaves_at(reading, segment)
    return (segment + reading.segments + 1) * reading.segment_ms
  end

  -- 0 if `cost` fits under `limit` now, -1 if it never does, else the milliseconds until it fits if nothing more is
  -- charged.
  local function fit(reading, limit, cost)
    if cost > limit then
      return -1
    end
    local used, room = reading.total, limit - cost
    if used <= room then
      return 0
    end
    -- Every unit is in a segment, so the last one to leave makes room.
    local wait = math.max(leaves_at(reading, reading.last) - reading.now, 1)
    each_segment(reading, reading.first, reading.last, function(segment, count)
      used = used - count
      if used <= room then
        wait = math.max(leaves_at(reading, segment) - reading.now, 1)
        return true
      end
    end)
    return wait
  end

  -- The place of a charge made now: its segment, or the last one charged if the clock is a moment behind.
  local function place(reading)
    return reading.current
  end

  -- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
  local function charge(reading, cost)
    if cost == 0 then
      return
    end
    local segment = reading.current
    if reading.total + cost >= TOO_MUCH then
      -- All of it leaves with this segment.
      reading.emptied, reading.counts, reading.dirty, reading.left = true, {}, {}, {}
      reading.total, reading.first, reading.last, cost = 0, nil, nil, TOO_MUCH
    end
    reading.total = reading.total + cost
    reading.counts[segment] = (reading.counts[segment] or 0) + cost
    reading.dirty[segment] = true
    if reading.last ~= segment then
      reading.last = segment
      reading.began = true
    end
    reading.first = reading.first or segment
  end

  -- Units charged at `place` that are still in the window.
  local function count(reading, place)
    if not reading.last or place < reading.oldest or place > reading.last then
      return 0
    end
    learn(reading, place, place)
    return reading.counts[place] or 0
  end

  -- Refunds `amount` to the segment `place`, if that is still in the window.
  local function refund(reading, place, amount)
    local charged = count(reading, place)
    amount = math.min(amount, charged)
    if amount > 0 and reading.total < TOO_MUCH then
      reading.counts[place] = charged - amount
      reading.dirty[place] = true
      reading.total = math.max(reading.total - amount, 0)
    end
  end

  -- Refunds `amount` of the charges in the window, the newest segment first: what would have stayed longest.
  local function give_back(reading, amount)
    local to = reading.last
    while to and amount > 0 and to >= reading.first do
      local from = math.max(to - SEGMENTS_AT_ONCE + 1, reading.first)
      learn(reading, from, to)
      for segment = to, from, -1 do
        local part = math.min(reading.counts[segment] or 0, amount)
        refund(reading, segment, part)
        amount = amount - part
      end
      to = from - 1
    end
  end

  -- Units in the window.
  local function used(reading)
    return reading.total
  end

  -- Milliseconds until the window is empty if nothing more is charged; 0 if it is empty. The last segment charged
  -- decides, even if its charges have been refunded.
  local function reset_ms(reading)
    if reading.total == 0 then
      return 0
    end
    return math.max(leaves_at(reading, reading.last) - reading.now, 0)
  end

  -- How long Redis must keep the counter after its last charge, in milliseconds: one segment longer than a unit can
  -- stay in the window.
  local function keep_ms(reading)
    return (reading.segments + 2) * reading.segment_ms
  end

  -- Writes the changes. Returns whether a segment began, and then sets the key's expiry anew: every key expires, and a
  -- busy counter does not pay for that on each request.
  local function write(reading)
    local key = reading.key
    if reading.emptied then
      delete_counter(reading)
    end
    for i = 1, #reading.left, SEGMENTS_AT_ONCE do
      redis.call('HDEL', key, unpack(reading.left, i, math.min(i + SEGMENTS_AT_ONCE - 1, #reading.left)))
    end
    local fields = {}
    for segment in pairs(reading.dirty) do
      fields[#fields + 1] = decimals(segment)
      fields[#fields + 1] = decimals(reading.counts[segment])
    end
    if #fields > 0 or reading.moved then
      local lead = reading.emptied and 0 or reading.lead
      fields[#fields + 1] = 's'
      fields[#fields + 1] = string.format('%d %d %d %d', reading.total, reading.first, reading.last, lead)
      redis.call('HSET', key, unpack(fields))
    end
    if reading.began then
      expire_counter(reading, keep_ms(reading))
    end
    return reading.began
  end

  return {
    read = read,
    fit = fit,
    place = place,
    charge = charge,
    count = count,
    refund = refund,
    give_back = give_back,
    used = used,
    reset_ms = reset_ms,
    keep_ms = keep_ms,
    write = write,
  }
end
