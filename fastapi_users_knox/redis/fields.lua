-- The beginning of every script: how records are stored, and what all scripts share.
--
-- A record is stored under <prefix>{<tag>}:<digest>, as a JSON array of the fields below. Each user has an index under
-- <prefix>{<tag>}:user:<user id>: a sorted set of digests, by expiry in seconds. All keys of one user contain the same
-- tag, so they are in one slot of a cluster. A record that is not in its user's index does not count. If there are many
-- records, there is a catalogue too, see catalogue.lua.
--
-- All times are milliseconds since 1970 UTC, and the caller passes them. Redis uses its own clock only to delete old
-- keys: a key expires GRACE after its record.
--
-- DATA is a text that contains JSON. No script parses it, because cjson would change its numbers and empty arrays.
-- TOKEN_TTL is 0 if the record was rolled, so that its expiry no longer moves.
--
-- RENEWED_BY is the number of the call that last set LAST_USED_AT, or UNCONFIRMED. An unconfirmed record counts for the
-- limit, but its token is not accepted yet.
--
-- KEYS[1]  a key of the user; all keys of one user have the same beginning

local UNCONFIRMED = 0
local ID, USER_ID, CREATED_AT, EXPIRES_AT, LAST_USED_AT, RENEWED_BY, AUDIENCE, DEVICE_ID = 1, 2, 3, 4, 5, 6, 7, 8
local AUTHENTICATED_AT, SCOPES, DATA, TOKEN_TTL = 12, 13, 14, 15

local base = string.match(KEYS[1], '^[^{]*{[^}]*}:')

-- Return a field of a record, or nil if it has no value.
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

-- Make a replica refuse the script, by a write that changes nothing. A replica may still have records that the master
-- has removed.
local function refuse_replica()
  redis.call('DEL', base .. 'nothing')
end

-- Make a node of a cluster refuse the script while the slot is moving. Otherwise a key that has moved to another node
-- would look as if it had been removed. A node refuses a command with several keys if one of them is missing.
local function refuse_migration(key, other)
  redis.call('EXISTS', key, other)
end

