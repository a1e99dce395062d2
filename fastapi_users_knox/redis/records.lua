-- What the scripts share that look at several records, or write; it stands behind fields.lua.

local GRACE = 60000

local function read(digest)
  local text = redis.call('GET', base .. digest)
  return text and cjson.decode(text)
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
    -- A little less is as long: the two were set by commands that may each have had a millisecond of their own.
    local is_as_long = index_ttl ~= -1 and ttl + 1000 >= index_ttl
    was_longest = was_longest or ttl == -1 or is_as_long or (index_ttl == -1 and ttl == -2)
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
