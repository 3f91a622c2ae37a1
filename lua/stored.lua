-- stored: reads what Redis holds, and trusts none of it; and the time of a counter when the clock steps back.
--
-- KEYS        None by itself: the functions take a key.
-- ARGV        None.
-- Returns     The functions below.
-- Complexity  That of the command.
--
-- Somebody may write into a key of ours, by hand or by mistake. What no script can have written counts as nothing: a
-- counter that is not ours is a new one, and no value makes a script work longer than its own would.

-- What a counter holds whose charges add up to more than Lua can count. It stays there, whatever is given back to it,
-- until its charges leave the window.
local TOO_MUCH = 2 ^ 53

-- `text` as a whole number up to TOO_MUCH, else nil. Lua itself reads "inf", "nan", "0x10" and "1e3" as numbers.
local function whole(text)
  local number = text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text)
  return number and number <= TOO_MUCH and number or nil
end

-- Four whole numbers up to TOO_MUCH, which `text` has with a space between two, else nil.
local function whole_numbers(text)
  if not text or #text > 67 then
    return nil
  end
  local a, b, c, d = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  if a and math.max(a, b, c, d) <= TOO_MUCH then
    return a, b, c, d
  end
end

-- A whole number as a text. Redis itself would format it as a fraction, which takes three times as long.
local function decimals(number)
  return string.format('%d', number)
end

-- The reply to a command that touches `key`, and whether the key has another type, in which case the reply is empty.
local function try(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then
    return reply, false
  elseif string.find(reply.err, 'WRONGTYPE', 1, true) then
    return {}, true
  end
  -- Redis raises the error again, in its own words.
  return redis.call(command, key, ...), false
end

-- How far the clock may be behind a counter that counts over `length_ms` before the counter goes on without it. Twin of
-- src/window/clock.rs, which argues why.
local function slack_ms(length_ms)
  return math.min(math.floor(length_ms / 60), 60000)
end

-- How far the counter's time is ahead of the clock, and that time, when the clock shows `now` and the counter, which
-- was ahead by `lead`, has seen the time `seen`.
local function counter_time(lead, now, seen, slack)
  if seen - (now + lead) > slack then
    lead = seen - now
  end
  return lead, now + lead
end
