-- The functions shared by the scripts that write or read several records. This file comes after fields.lua.
--
-- ARGV[1]  the arguments of the script as a JSON object, without arguments that have no value

local arguments = cjson.decode(ARGV[1])

local GRACE = 60000

local function read(digest)
  local text = redis.call('GET', base .. digest)
  return text and cjson.decode(text)
end

local function is_expired(record)
  local expires_at = field(record, EXPIRES_AT)
  return expires_at ~= nil and expires_at <= arguments.now
end

local function is_too_old(record)
  return arguments.created_since ~= nil and record[CREATED_AT] < arguments.created_since
end

local function is_live(record)
  return not is_expired(record) and not is_too_old(record)
end

local function active_at(record)
  return field(record, LAST_USED_AT) or record[CREATED_AT]
end

-- Return the score of a record in the index.
local function score(record)
  local expires_at = field(record, EXPIRES_AT)
  return expires_at and math.ceil(expires_at / 1000) or '+inf'
end

-- Let the key of a record expire GRACE after the record.
local function set_ttl(digest, record)
  local expires_at = field(record, EXPIRES_AT)
  if expires_at then
    redis.call('PEXPIRE', base .. digest, math.max(1, expires_at - arguments.now + GRACE))
  else
    redis.call('PERSIST', base .. digest)
  end
end

-- Let the index exist at least as long as the key of one of its records.
local function extend_index(index, digest)
  local ttl, record_ttl = redis.call('PTTL', index), redis.call('PTTL', base .. digest)
  if record_ttl == -1 then
    redis.call('PERSIST', index)
  elseif (ttl ~= -1 and ttl < record_ttl) or redis.call('ZCARD', index) == 1 then -- An index of one record may be new.
    redis.call('PEXPIRE', index, record_ttl)
  end
end

-- Store a record under another digest, with the same score in the index.
local function move(index, old, new)
  redis.call('RENAME', base .. old, base .. new)
  redis.call('ZADD', index, redis.call('ZSCORE', index, old), new)
  redis.call('ZREM', index, old)
end

-- Return a pair of digest and record for each record of a user, or for the `most` records that expire first. Also
-- return the digests in the index whose record does not exist any more.
local function read_all(index, most)
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

-- Let the index expire together with the last of its records' keys.
local function shorten_index(index)
  local longest = 0
  for _, digest in ipairs(redis.call('ZRANGE', index, 0, -1, 'REV')) do
    local ttl = redis.call('PTTL', base .. digest)
    if ttl == -1 then return end
    longest = math.max(longest, ttl)
  end
  if longest > 0 then redis.call('PEXPIRE', index, longest) end
end

-- Delete records, and shorten the life of the index if it depended on one of them.
local function delete(index, digests)
  local index_ttl, was_longest = redis.call('PTTL', index), false
  for _, digest in ipairs(digests) do
    local ttl = redis.call('PTTL', base .. digest)
    -- The times to live of a record and of its index were set by two commands, so they may differ by milliseconds.
    -- If Redis has expired a record's key (-2), an index with a time to live did not depend on it.
    local is_as_long = index_ttl ~= -1 and ttl + 1000 >= index_ttl
    was_longest = was_longest or ttl == -1 or is_as_long or (index_ttl == -1 and ttl == -2)
    redis.call('DEL', base .. digest)
    redis.call('ZREM', index, digest)
  end
  if was_longest then shorten_index(index) end
end

-- Return the answer that an earlier run of this call has kept. A client repeats a call if its answer was lost.
local function kept_answer(answer_key)
  return redis.call('GET', answer_key)
end

-- Return an array, and keep it for a repetition unless it is empty. The caller deletes the answer once it has arrived.
local function keep_answer(answer_key, answer)
  if #answer == 0 then return '[]' end
  local text = cjson.encode(answer)
  redis.call('SET', answer_key, text, 'PX', GRACE)
  return text
end

-- Remove and return the records of a user for which the function returns true.
local function remove_where(index, answer_key, is_meant)
  refuse_replica()
  local answered = kept_answer(answer_key)
  if answered then return answered end
  local found, gone = read_all(index)
  local answer = {}
  for _, pair in ipairs(found) do
    if is_meant(pair[1], pair[2]) then
      gone[#gone + 1], answer[#answer + 1] = pair[1], pair[2]
    end
  end
  delete(index, gone)
  return keep_answer(answer_key, answer)
end
