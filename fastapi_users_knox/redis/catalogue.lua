-- How the scripts find some of the records of a user with many records, without reading them all. This file comes after
-- records.lua.
--
-- Such a user has a catalogue under <prefix>{<tag>}:catalogue:<user id>, beside the index. It is a sorted set in which
-- every score is 0, so that its members are in alphabetical order and each range of them is found at once. Each record
-- of the index has these members, in which a time has 14 digits, and the length precedes an audience and a device:
--
--   i<id><row>                           the row: a JSON array from which the other members can be made; or
--   k<id><row>                           the same, for a record with scopes
--   d<audience><device><id>              if the record has a device
--   u<audience><id>                      if the record is unconfirmed; otherwise
--   c<audience><created at><id>
--   e<audience><expires at><id>
--   a<audience><active at><id>
--
-- A member c... is the same as long as the record exists. So a list that follows these members misses no record and
-- returns none twice, even if records are renewed or rotated in the meantime.
--
-- While the catalogue is not complete, it has a member b<cursor> as well: where to go on in the index.
--
-- KEYS[2]  the user's catalogue
-- ARGV[1]  step       the number of records that a script may read. It may write half as many, because that takes longer.
--                     A user has a catalogue from the first script on that finds more records than this, until a script
--                     leaves at most half of them.

local CATALOGUE, STEP = KEYS[2], arguments.step
local HALF = STEP and math.ceil(STEP / 2)
local ID_LENGTH, DIGITS, NEVER = 22, 14, 99999999999999

local has_catalogue = redis.call('EXISTS', CATALOGUE) == 1

-- Return a text that begins with its length. No such text is the beginning of another.
local function measured(text)
  return #text .. ':' .. text
end

local function digits(moment)
  return string.format('%014d', moment)
end

-- Return the first letter of the member that contains a record's row.
local function letter_of(record)
  return field(record, SCOPES) and 'k' or 'i'
end

local function row_of(digest, record)
  return {
    digest, audience_of(record), record[CREATED_AT], field(record, EXPIRES_AT) or NEVER, active_at(record),
    field(record, DEVICE_ID) or false, is_unconfirmed(record),
  }
end

-- Return the members of a record, except the row itself.
local function members_of(id, row)
  local _, audience, created_at, expires_at, last_active_at, device_id, has_no_dates = unpack(row)
  audience = measured(audience)
  local members = {}
  if has_no_dates then
    members = {'u' .. audience .. id}
  else
    members = {
      'c' .. audience .. digits(created_at) .. id,
      'e' .. audience .. digits(expires_at) .. id,
      'a' .. audience .. digits(last_active_at) .. id,
    }
  end
  if device_id then members[#members + 1] = 'd' .. audience .. measured(device_id) .. id end
  return members
end

-- Return the row of an id, and all members of its record; or nil if the catalogue does not have it.
local function row_at(id)
  local member
  for _, letter in ipairs({'i', 'k'}) do
    local first, past = '[' .. letter .. id, '(' .. letter .. id .. '\255'
    member = member or redis.call('ZRANGE', CATALOGUE, first, past, 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  if not member then return nil end
  local row = cjson.decode(string.sub(member, ID_LENGTH + 2))
  local members = members_of(id, row)
  members[#members + 1] = member
  return row, members
end

-- Write the members of a record into the catalogue, in place of those that it had.
local function link(digest, record)
  if not has_catalogue then return end
  local id, row = record[ID], row_of(digest, record)
  local _, old = row_at(id)
  if old then redis.call('ZREM', CATALOGUE, unpack(old)) end
  local scored = {0, letter_of(record) .. id .. cjson.encode(row)}
  for _, member in ipairs(members_of(id, row)) do
    scored[#scored + 1], scored[#scored + 2] = 0, member
  end
  redis.call('ZADD', CATALOGUE, unpack(scored))
end

-- Let the catalogue expire together with the index.
local function expire_catalogue(index)
  if not has_catalogue then return end
  local ttl = redis.call('PTTL', index)
  if ttl == -1 then redis.call('PERSIST', CATALOGUE) else redis.call('PEXPIRE', CATALOGUE, ttl) end
end

local function drop_catalogue()
  redis.call('UNLINK', CATALOGUE) -- Unlike DEL, this frees the memory of thousands of members in the background.
  has_catalogue = false
end

-- Let the index exist at least as long as the key of one of its records.
local function extend_index(index, digest)
  local ttl, record_ttl = redis.call('PTTL', index), redis.call('PTTL', base .. digest)
  if record_ttl == -1 then
    redis.call('PERSIST', index)
  elseif (ttl ~= -1 and ttl < record_ttl) or redis.call('ZCARD', index) == 1 then -- An index of one record may be new.
    redis.call('PEXPIRE', index, record_ttl)
  end
  expire_catalogue(index)
end

-- Return the first `most` members between two texts, of which the second is excluded; or the last ones, backwards.
local function between(from, to, most, is_backwards)
  if is_backwards then
    return redis.call('ZRANGE', CATALOGUE, '(' .. to, '[' .. from, 'BYLEX', 'REV', 'LIMIT', 0, most)
  end
  return redis.call('ZRANGE', CATALOGUE, '[' .. from, '(' .. to, 'BYLEX', 'LIMIT', 0, most)
end

local function beginning_with(text, most)
  return between(text, text .. '\255', most)
end

local function number_between(from, to)
  return redis.call('ZLEXCOUNT', CATALOGUE, '[' .. from, '(' .. to)
end

-- Return the ids with which members end.
local function ids_of(members)
  local ids = {}
  for number, member in ipairs(members) do ids[number] = string.sub(member, -ID_LENGTH) end
  return ids
end

-- Return the ids of members that contain a row.
local function ids_of_rows(members)
  local ids = {}
  for number, member in ipairs(members) do ids[number] = string.sub(member, 2, ID_LENGTH + 1) end
  return ids
end

-- Add the records of the next part of the index.
local function extend_catalogue(index)
  local mark = beginning_with('b', 1)[1] or 'b0'
  redis.call('ZADD', CATALOGUE, 0, mark)
  has_catalogue = true
  local cursor, members = unpack(redis.call('ZSCAN', index, string.sub(mark, 2), 'COUNT', HALF))
  for number = 1, #members, 2 do
    local digest = members[number]
    local record = read(digest)
    if record then
      link(digest, record)
    else
      refuse_migration(index, base .. digest)
      redis.call('ZREM', index, digest)
    end
  end
  redis.call('ZREM', CATALOGUE, mark)
  if cursor ~= '0' then redis.call('ZADD', CATALOGUE, 0, 'b' .. cursor) end
  expire_catalogue(index)
end

-- Return whether to search the catalogue. If not, there are few enough records to read all of them. Return nil if the
-- catalogue is not complete yet: then this call has extended it, and the caller has to run the script again.
local function is_large(index)
  local count = redis.call('ZCARD', index)
  local is_complete = has_catalogue and not beginning_with('b', 1)[1]
  -- The numbers differ if Redis has evicted the index, or if something else has changed it.
  if is_complete and number_between('i', 'j') + number_between('k', 'l') == count then return true end
  if count <= STEP then return false end
  if is_complete then drop_catalogue() end
  extend_catalogue(index)
  return not beginning_with('b', 1)[1] or nil
end
