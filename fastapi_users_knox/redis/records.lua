-- What the scripts share; it stands before each of them.
--
-- A record is kept under <prefix>{<tag>}:<digest> as a JSON array of the fields below. The index of a user, under
-- <prefix>{<tag>}:user:<user id>, is a sorted set of digests, by expiry in seconds. All keys of one user have the
-- same tag, and so are in one slot of a cluster. A record that its index does not hold is none.
--
-- All times are milliseconds since 1970 UTC, told by the caller; Redis's own clock only clears away: a key outlives
-- its record by GRACE.
--
-- RENEWED_BY is the number of the call that has noted the last use, or UNCONFIRMED: such a record takes its place in the
-- limit, but nobody is let in by it yet.
--
-- KEYS[1]  a key of the user's, which tells what all of them begin with
-- ARGV[1]  what the script is told, as a JSON object; what is absent is not told

local GRACE = 60000
local UNCONFIRMED = 0
local ID, USER_ID, CREATED_AT, EXPIRES_AT, LAST_USED_AT, RENEWED_BY, AUDIENCE, DEVICE_ID = 1, 2, 3, 4, 5, 6, 7, 8

local base = string.match(KEYS[1], '^[^{]*{[^}]*}:')
local told = cjson.decode(ARGV[1])

-- Return a field, or nil where there is none.
local function field(record, number)
  local value = record[number]
  if value == cjson.null then return nil end
  return value
end

local function digest_of(key)
  return string.sub(key, #base + 1)
end

local function read(digest)
  local text = redis.call('GET', base .. digest)
  return text and cjson.decode(text)
end

local function audience_of(record)
  return field(record, AUDIENCE) or ''
end

local function is_expired(record)
  local expires_at = field(record, EXPIRES_AT)
  return expires_at ~= nil and expires_at <= told.now
end

local function is_too_old(record)
  return told.created_since ~= nil and record[CREATED_AT] < told.created_since
end

local function is_live(record)
  return not is_expired(record) and not is_too_old(record)
end

local function active_at(record)
  return field(record, LAST_USED_AT) or record[CREATED_AT]
end

-- Make a replica refuse the script, by a write that changes nothing: it may not know yet what has been ended.
local function refuse_replica()
  redis.call('DEL', base .. 'nothing')
end

-- Make a node of a cluster refuse the script while the slot moves, instead of taking for gone what has only moved: it
-- does so for commands with several keys of which one is not there.
local function refuse_migration(key, other)
  redis.call('EXISTS', key, other)
end

-- Return the score of a record in its index.
local function score(record)
  local expires_at = field(record, EXPIRES_AT)
  return expires_at and math.ceil(expires_at / 1000) or '+inf'
end

-- Let a record's key live as long as the record, and GRACE longer.
local function extend(digest, record)
  local expires_at = field(record, EXPIRES_AT)
  if expires_at then
    redis.call('PEXPIRE', base .. digest, math.max(1, expires_at - told.now + GRACE))
  else
    redis.call('PERSIST', base .. digest)
  end
end

-- Let the index live at least as long as the key of this record of it.
local function outlive(index, digest)
  local ttl, its_ttl = redis.call('PTTL', index), redis.call('PTTL', base .. digest)
  if its_ttl == -1 then
    redis.call('PERSIST', index)
  elseif (ttl ~= -1 and ttl < its_ttl) or redis.call('ZCARD', index) == 1 then -- The one record has just made it.
    redis.call('PEXPIRE', index, its_ttl)
  end
end

-- Put a record's key and its place in the index under another digest.
local function move(index, old, new)
  redis.call('RENAME', base .. old, base .. new)
  redis.call('ZADD', index, redis.call('ZSCORE', index, old), new)
  redis.call('ZREM', index, old)
end

-- Return the user's records, or the first ones to expire, as pairs of digest and record; and the digests of the index
-- whose records are gone.
local function look(index, most)
  local found, gone = {}, {}
  for _, digest in ipairs(redis.call('ZRANGE', index, 0, most and most - 1 or -1)) do
    local record = read(digest)
    if record then
      found[#found + 1] = {digest, record}
    else
      refuse_migration(index, base .. digest)
      gone[#gone + 1] = digest
    end
  end
  return found, gone
end

-- Let the index live as long as the longest of its records, by Redis's own clock.
local function fit(index)
  local longest = 0
  for _, digest in ipairs(redis.call('ZRANGE', index, 0, -1, 'REV')) do
    local ttl = redis.call('PTTL', base .. digest)
    if ttl == -1 then return end
    longest = math.max(longest, ttl)
  end
  if longest > 0 then redis.call('PEXPIRE', index, longest) end
end

-- Delete records, and let the index not outlive the longest of what is left.
local function delete(index, digests)
  local index_ttl, was_longest = redis.call('PTTL', index), false
  for _, digest in ipairs(digests) do
    local ttl = redis.call('PTTL', base .. digest)
    -- Of a record that Redis has expired nothing is known, but that it was not the longest of an index that goes on.
    was_longest = was_longest or ttl == -1 or (index_ttl ~= -1 and ttl >= index_ttl) or (index_ttl == -1 and ttl == -2)
    redis.call('DEL', base .. digest)
    redis.call('ZREM', index, digest)
  end
  if was_longest then fit(index) end
end

-- Return what a call has answered before: the client repeats a call whose answer was lost.
local function recall(answer_key)
  return redis.call('GET', answer_key)
end

-- Answer with an array, and keep what is not empty for a repetition; the client deletes it once it is there.
local function answer_with(answer_key, answer)
  if #answer == 0 then return '[]' end
  local text = cjson.encode(answer)
  redis.call('SET', answer_key, text, 'PX', GRACE)
  return text
end

-- End the user's records for which the question is answered with true, and answer with them.
local function end_those(index, answer_key, is_meant)
  refuse_replica()
  local answered = recall(answer_key)
  if answered then return answered end
  local found, gone = look(index)
  local answer = {}
  for _, pair in ipairs(found) do
    if is_meant(pair[1], pair[2]) then
      gone[#gone + 1], answer[#answer + 1] = pair[1], pair[2]
    end
  end
  delete(index, gone)
  return answer_with(answer_key, answer)
end
