-- learn: takes what answers have taught about the counts of prompts, and returns the factors that correct them.
--
-- KEYS        1: the votes, a hash with a field for each cell; 2: the cells by when they were taught last, a sorted
--             set; 3: the factors, a hash with a field for each cell that has enough lessons. They share one hash tag,
--             which no counter has.
-- ARGV        1: how long they are kept without a lesson, in milliseconds; then for each lesson its cell, its voter,
--             and the tokens that were reported for a thousand that were counted.
-- Returns     Each cell that has a factor, followed by its factor in thousandths, as texts.
-- Complexity  O(lessons + cells that are taught * voters + new cells * cells).
--
-- A field of the votes has the number of its lessons, up to ENOUGH, and each voter with its last lessons, oldest first;
-- the voter that has voted last comes last: `20 <voter>:1300,1290 <voter>:1000`. Twin of
-- src/usage/learned_prompt/votes.rs, which has the same numbers.

local MAX_CELLS, MAX_VOTERS, MAX_LESSONS, ENOUGH, MAX_NEEDED = 64, 64, 15, 20, 5

-- The smallest and the largest factor, and the largest lesson.
local LEAST, MOST, MAX_SHARE = 900, 1500, 10000

local votes, recent, factors = KEYS[1], KEYS[2], KEYS[3]

-- The middle one of `values`, or, of an even number, the middle of the two in the middle, rounded down.
local function median(values)
  table.sort(values)
  local size = #values
  return math.floor((values[math.floor((size - 1) / 2) + 1] + values[math.floor(size / 2) + 1]) / 2)
end

-- Reads a field of the votes. What no script can have written counts as nothing.
local function read(text)
  text = text or ''
  local ballot = { lessons = math.min(tonumber(string.match(text, '^(%d%d?) ')) or 0, ENOUGH), voters = {} }
  for voter, list in string.gmatch(text, ' (%x+):([%d,]+)') do
    local shares = {}
    for share in string.gmatch(list, '%d+') do
      if #shares < MAX_LESSONS then
        shares[#shares + 1] = math.min(tonumber(share), MAX_SHARE)
      end
    end
    if #shares > 0 and #ballot.voters < MAX_VOTERS then
      ballot.voters[#ballot.voters + 1] = { name = voter, shares = shares }
    end
  end
  return ballot
end

local function write(ballot)
  local parts = { string.format('%d', ballot.lessons) }
  for i, voter in ipairs(ballot.voters) do
    parts[i + 1] = voter.name .. ':' .. table.concat(voter.shares, ',')
  end
  return table.concat(parts, ' ')
end

-- Adds a lesson of `name`, who becomes the last of the voters.
local function teach(ballot, name, share)
  local voter = { name = name, shares = {} }
  for i, known in ipairs(ballot.voters) do
    if known.name == name then
      voter = table.remove(ballot.voters, i)
      break
    end
  end
  if #ballot.voters >= MAX_VOTERS then
    table.remove(ballot.voters, 1)
  end
  ballot.voters[#ballot.voters + 1] = voter
  voter.shares[#voter.shares + 1] = math.min(tonumber(share), MAX_SHARE)
  if #voter.shares > MAX_LESSONS then
    table.remove(voter.shares, 1)
  end
  ballot.lessons = math.min(ballot.lessons + 1, ENOUGH)
end

-- The median of the votes, each within the bounds. A voter with fewer lessons than others have on average has no vote.
local function factor(ballot)
  local all = 0
  for _, voter in ipairs(ballot.voters) do
    all = all + #voter.shares
  end
  local needed = math.max(1, math.min(MAX_NEEDED, math.floor(all / #ballot.voters)))
  local medians = {}
  for _, voter in ipairs(ballot.voters) do
    if #voter.shares >= needed then
      local shares = {}
      for s, share in ipairs(voter.shares) do
        shares[s] = share
      end
      medians[#medians + 1] = math.max(LEAST, math.min(MOST, median(shares)))
    end
  end
  return median(medians)
end

-- The ballots of the cells that are taught, and of others the only voter, or false if there are several.
local ballots, only = {}, {}

-- The only voter of `cell`; false if it has several.
local function only_voter(cell)
  local ballot = ballots[cell]
  if ballot then
    return #ballot.voters == 1 and ballot.voters[1].name
  end
  if only[cell] == nil then
    only[cell] = string.match(redis.call('HGET', votes, cell) or '', '^%d+ (%x+):[%d,]+$') or false
  end
  return only[cell]
end

-- The cell that makes room for one of `name`: of those with one voter alone, the oldest of the voter with the most of
-- them, or else the oldest of all.
local function dispensable(name)
  local cells = redis.call('ZRANGE', recent, 0, -1)
  local counts, alone = { [name] = 1 }, {}
  for _, cell in ipairs(cells) do
    local voter = only_voter(cell)
    if voter then
      counts[voter] = (counts[voter] or 0) + 1
      alone[#alone + 1] = { cell = cell, voter = voter }
    end
  end
  local most
  for _, one in ipairs(alone) do
    local more = most and counts[one.voter] - counts[most.voter]
    if not most or more > 0 or (more == 0 and one.voter == name and most.voter ~= name) then
      most = one
    end
  end
  return most and most.cell or cells[1]
end

local last = redis.call('ZREVRANGE', recent, 0, 0, 'WITHSCORES')
local turn = tonumber(last[2] or 0)
for at = 2, #ARGV, 3 do
  local cell = ARGV[at]
  if not ballots[cell] then
    local text = redis.call('HGET', votes, cell)
    if not text and redis.call('ZCARD', recent) >= MAX_CELLS then
      local other = dispensable(ARGV[at + 1])
      redis.call('ZREM', recent, other)
      redis.call('HDEL', votes, other)
      redis.call('HDEL', factors, other)
      ballots[other], only[other] = nil, nil
    end
    ballots[cell] = read(text)
  end
  turn = turn + 1
  redis.call('ZADD', recent, turn, cell)
  teach(ballots[cell], ARGV[at + 1], ARGV[at + 2])
end

for cell, ballot in pairs(ballots) do
  redis.call('HSET', votes, cell, write(ballot))
  if ballot.lessons >= ENOUGH then
    redis.call('HSET', factors, cell, factor(ballot))
  end
end
if #ARGV > 1 then
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return redis.call('HGETALL', factors)
