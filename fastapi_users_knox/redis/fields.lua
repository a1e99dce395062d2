-- What every script begins with.
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

local function audience_of(record)
  return field(record, AUDIENCE) or ''
end

local function digest_of(key)
  return string.sub(key, #base + 1)
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

