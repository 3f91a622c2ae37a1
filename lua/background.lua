-- background: brings an open response and its usage together, whichever comes first.
--
-- KEYS        1: the key of the response.
-- ARGV        1: `open` or `usage`, for what has come; 2: its text; 3: how long it may wait for the other, in
--             milliseconds; 4: how long what it meets is kept for a repeated call.
-- Returns     The text of the other if it was there, else false.
-- Complexity  O(1).
--
-- The key holds what came first: its kind, a space and its text. A repeated call finds the same again. Settling twice
-- changes nothing, so a response stays open for its usage to come once more.
local kind, other = ARGV[1], ARGV[1] == 'open' and 'usage ' or 'open '
local waiting = redis.pcall('GET', KEYS[1])
waiting = type(waiting) == 'string' and waiting
if waiting and string.sub(waiting, 1, #other) == other then
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
  return string.sub(waiting, #other + 1)
end
redis.call('SET', KEYS[1], kind .. ' ' .. ARGV[2], 'PX', ARGV[3])
return false
