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

local function is_unconfirmed(record)
  return field(record, RENEWED_BY) == UNCONFIRMED
end

local function active_at(record)
  return field(record, LAST_USED_AT) or record[CREATED_AT]
end

-- Set a field. A JSON array cannot have gaps, so missing fields before this one are set to null.
local function set_field(record, number, value)
  for gap = #record + 1, number do record[gap] = cjson.null end
  record[number] = value
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

-- Store a record under a digest, in place of the one that is stored there.
local function store(index, digest, record)
  redis.call('SET', base .. digest, cjson.encode(record))
  set_ttl(digest, record)
  redis.call('ZADD', index, score(record), digest)
end

-- Store a record under another digest, with the same score in the index.
local function move(index, old, new)
  redis.call('RENAME', base .. old, base .. new)
  redis.call('ZADD', index, redis.call('ZSCORE', index, old), new)
  redis.call('ZREM', index, old)
end
