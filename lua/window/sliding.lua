-- The sliding window on a Redis hash: the same arithmetic as src/window/sliding.rs, which argues it.
--
-- A window is cut into segments of ceil(window_ms / segments), aligned to the epoch. A unit charged in segment i
-- counts until segment i + segments + 1 begins. The hash holds
--   t          the total of all segments
--   f          the oldest segment that may hold something
--   l          the last segment charged
--   <number>   what was charged in that segment, less refunds
--
-- A window is read once, worked on in memory and written once, so that a script can ask every window before it
-- charges any. Redis turns a Lua number into its shortest exact decimals, so whole numbers below 2^53 survive.
-- Complexity: amortised O(1) for read, charge, refund and write, since each segment is visited once, when it leaves;
-- fit is O(1) if the cost fits and else walks from the oldest segment as far as it must, at most segments + 1.
local function sliding_window()
  -- How many segments one command reads or deletes: far from Lua's limit on what `unpack` returns.
  local SEGMENTS_AT_ONCE = 100

  -- Calls visit(segment, count) for each segment of from..to that is stored, oldest first, until it returns true.
  -- The first batch is small because a walk that may stop early mostly does.
  local function each_segment(key, from, to, visit)
    local size = 16
    while from <= to do
      local names = {}
      for segment = from, math.min(from + size - 1, to) do
        names[#names + 1] = segment
      end
      local counts = redis.call('HMGET', key, unpack(names))
      for i, segment in ipairs(names) do
        local count = tonumber(counts[i])
        if count and visit(segment, count) then
          return
        end
      end
      from = from + size
      size = SEGMENTS_AT_ONCE
    end
  end

  local sliding = {}

  -- Reads the window under `key` and lets go of what has left it by `now`, all in memory. Limits are not its business.
  function sliding.read(key, now, window_ms, segments)
    local segment_ms = math.ceil(window_ms / segments)
    local current = math.floor(now / segment_ms)
    local stored = redis.call('HMGET', key, 't', 'f', 'l', current)
    local window = {
      key = key,
      now = now,
      segment_ms = segment_ms,
      segments = segments,
      total = tonumber(stored[1]) or 0,
      first = tonumber(stored[2]),
      last = tonumber(stored[3]),
      counts = {}, -- segments whose count is known
      dirty = {}, -- segments whose count is to be written
      left = {}, -- segments to delete
    }
    if window.last and window.last > current then
      -- The clock stepped back: never charge a segment before the last that was charged.
      current = window.last
      window.counts[current] = tonumber(redis.call('HGET', key, current))
    else
      window.counts[current] = tonumber(stored[4])
    end
    window.current = current
    window.oldest = math.max(current - segments, 0)
    if window.last and window.last < window.oldest then
      window.emptied = true
      window.total, window.first, window.last = 0, nil, nil
    elseif window.last and window.first < window.oldest then
      each_segment(key, window.first, window.oldest - 1, function(segment, count)
        window.total = window.total - count
        window.left[#window.left + 1] = segment
      end)
      window.first = window.oldest
      window.first_moved = true
    end
    return window
  end

  -- When a unit charged in `segment` leaves, in milliseconds since the epoch.
  local function leaves_at(window, segment)
    return (segment + window.segments + 1) * window.segment_ms
  end

  -- 0 if `cost` fits under `limit` now, -1 if it never does, else the milliseconds until it fits if nobody spends.
  function sliding.fit(window, limit, cost)
    if cost > limit then
      return -1
    end
    local used, room, wait = window.total, limit - cost, 0
    if used <= room then
      return 0
    end
    each_segment(window.key, window.first, window.last, function(segment, count)
      used = used - count
      if used <= room then
        wait = math.max(leaves_at(window, segment) - window.now, 1)
        return true
      end
    end)
    return wait
  end

  -- Where a charge would go now: the segment.
  function sliding.place(window)
    return window.current
  end

  -- Charges `cost`, whether or not it fits. A cost of zero leaves no trace.
  function sliding.charge(window, cost)
    if cost == 0 then
      return
    end
    local segment = window.current
    window.total = window.total + cost
    window.counts[segment] = (window.counts[segment] or 0) + cost
    window.dirty[segment] = true
    if window.last ~= segment then
      window.last = segment
      window.began = true
    end
    if not window.first then
      window.first = segment
      window.first_moved = true
    end
  end

  -- What was charged in `segment`, less refunds; 0 if it has left the window.
  function sliding.count(window, segment)
    if not window.last or segment < window.oldest or segment > window.last then
      return 0
    end
    return window.counts[segment] or tonumber(redis.call('HGET', window.key, segment)) or 0
  end

  -- Gives `amount` back to the segment that was charged, if it is still in the window.
  function sliding.refund(window, segment, amount)
    local count = sliding.count(window, segment)
    amount = math.min(amount, count)
    if amount > 0 then
      window.counts[segment] = count - amount
      window.dirty[segment] = true
      window.total = window.total - amount
    end
  end

  -- Units in the window.
  function sliding.used(window)
    return window.total
  end

  -- Milliseconds until the window is empty if nobody spends; 0 if it is. The last segment charged decides, even if
  -- its charges have been refunded.
  function sliding.reset_ms(window)
    if window.total == 0 then
      return 0
    end
    return math.max(leaves_at(window, window.last) - window.now, 0)
  end

  -- How long the window must be kept after it was last charged, in milliseconds: one segment longer than a unit can
  -- stay in it.
  function sliding.keep_ms(window)
    return (window.segments + 2) * window.segment_ms
  end

  -- Writes what has changed. Returns whether the window began a segment, at which its key's expiry is set anew: every
  -- key expires by itself, and a busy window does not pay for it on each request.
  function sliding.write(window)
    local key = window.key
    if window.emptied then
      redis.call('DEL', key)
    end
    for i = 1, #window.left, SEGMENTS_AT_ONCE do
      redis.call('HDEL', key, unpack(window.left, i, math.min(i + SEGMENTS_AT_ONCE - 1, #window.left)))
    end
    local fields = {}
    for segment in pairs(window.dirty) do
      fields[#fields + 1] = segment
      fields[#fields + 1] = window.counts[segment]
    end
    if #fields > 0 or window.first_moved then
      fields[#fields + 1] = 't'
      fields[#fields + 1] = window.total
      if window.first_moved then
        fields[#fields + 1] = 'f'
        fields[#fields + 1] = window.first
      end
      if window.began then
        fields[#fields + 1] = 'l'
        fields[#fields + 1] = window.last
      end
      redis.call('HSET', key, unpack(fields))
    end
    if window.began then
      redis.call('PEXPIRE', key, sliding.keep_ms(window))
    end
    return window.began
  end

  return sliding
end
