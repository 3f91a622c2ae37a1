-- grant: raises a limit until some time, ends what is granted, or gives units back by hand, and notes who did so.
--
-- KEYS        The windows' counters and their identities' indexes (prelude.lua); then each call's audit list. All share
--             one hash tag on a cluster.
-- ARGV        The time, the windows and the calls (prelude.lua). A call has one window, and these values before it:
--             `grant`, `refund` or `revoke`; the units; when a grant ends, in milliseconds since the epoch, 0 for the
--             end of the window; `dry` to change nothing, else `now`; how many entries the list keeps, and for how
--             long, in milliseconds; and a text for the list.
-- Returns     For each call the units granted, given back or no longer granted; when the grant ends, else 0; then the
--             window's used, reset_ms, 0 and the units that are granted, all after the change. Or, as a text, why
--             nothing has changed.
-- Complexity  O(grants); a refund O(segments).
--
-- An entry of the list is <time> <units> <end> <text>, the newest first. Grants with one end are one. The end of a
-- window that slides is one length from now.

local function grant(window, units, ends)
  local reading = window.reading
  local grants = reading.grants or { now = now }
  for _, grant in ipairs(grants) do
    if grant[2] == ends then
      grant[1] = math.min(grant[1] + units, MOST_RAISED)
      return
    end
  end
  if #grants >= MAX_GRANTS then
    return 'the limit has ' .. MAX_GRANTS .. ' grants that have not ended, which is the most'
  end
  grants[#grants + 1] = { units, ends }
  table.sort(grants, function(a, b)
    return a[2] < b[2]
  end)
  reading.grants, reading.grants_ended = grants, nil
end

local function end_of_window(window)
  local left = window.algorithm.left_ms
  return now + (left and left(window.reading) or tonumber(ARGV[window.arg + 1]))
end

local replies = reply_to_calls(7, function(at, key)
  local action, units, ends = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local window = windows_of(at + 7, true)[1]
  local reading = window.reading
  window.retry_after_ms = 0
  if action == 'grant' then
    ends = ends > 0 and ends or end_of_window(window)
    if ends <= now then
      return 'that time has passed'
    end
    local wrong = grant(window, units, ends)
    if wrong then
      return wrong
    end
  elseif action == 'refund' then
    units, ends = give_back(window, units), 0
  else
    units, ends = window.capacity - window.configured, 0
    reading.grants_ended = reading.grants ~= nil or reading.grants_ended
    reading.grants = nil
  end
  window.capacity = raised(reading, window.configured, 1)

  if ARGV[at + 3] == 'now' then
    -- First the list: where a user may not write it, nothing changes.
    key = KEYS[key]
    local entry = string.format('%d %d %d %s', now, units, ends, ARGV[at + 6])
    local _, is_foreign = try('LPUSH', key, entry)
    if is_foreign then
      redis.call('DEL', key)
      redis.call('LPUSH', key, entry)
    end
    redis.call('LTRIM', key, 0, tonumber(ARGV[at + 4]) - 1)
    redis.call('PEXPIRE', key, ARGV[at + 5])
    if action == 'grant' then
      _, is_foreign = try('HGET', reading.key, 'g')
      if is_foreign then
        redis.call('DEL', reading.key)
      end
      write_grants(reading)
      expire_counter(reading, math.max(window.algorithm.keep_ms(reading), redis.call('PTTL', reading.key)))
      enter(window, 'HSET')
    end
    write_window(window, 'HSET')
    if action == 'revoke' then
      expire_counter(reading, window.algorithm.keep_ms(reading))
    end
  end
  return report({ units, ends }, { window })
end)
return replies
