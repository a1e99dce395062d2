-- Store the record of a new token, not confirmed yet. Remove records that it replaces, that have expired, or that
-- exceed the limit.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- KEYS[3]  where to keep the answer                                     KEYS[4]  where to store the record
-- ARGV[1]  record                the new record, as an array of its fields
--          now, created_since    milliseconds
--          by                    the id of the same user's record that authorizes the new one
--          limit, limit_policy   the largest number of live records of the audience, this one included
--          roll                  the record that this one replaces later: its `id`, the `before` that its expiry must
--                                have (absent if it never expires), and its new expiry, `until`; milliseconds
--          replaces              digests of the records that this one replaces
--          unconfirmed           milliseconds until the record expires if it is not confirmed. Redis may run the script
--                                after its caller has given up, and then the record must not count for long.
--          step                  see catalogue.lua
--          part                  the number of runs before this one
-- Result   whether the caller has to run the script again, because the record is not stored yet, and an array of pairs:
--          "expired", "replaced" or "evicted", and the record that was removed for this reason; or "rolled", and the
--          digest of the record `roll`, which confirm.lua changes;
--          nil: the limit is reached, and nothing was changed;
--          0: the record `by` or `roll` does not exist, has expired or was changed, and nothing was changed
-- Idempotent: a repetition finds its record or its answer, and returns the same.

local index, answer_key, key, record = KEYS[1], KEYS[3], KEYS[4], arguments.record
local answered = kept_answer(answer_key)
if answered then return answered end
if redis.call('EXISTS', key) == 1 then return NOTHING end

local audience, device_id, limit = audience_of(record), field(record, DEVICE_ID), arguments.limit
local created, unconfirmed = 'c' .. measured(audience), 'u' .. measured(audience)
local expiring, active = 'e' .. measured(audience), 'a' .. measured(audience)
local replaced = {}
for _, digest in ipairs(arguments.replaces) do replaced[digest] = true end

-- All records are considered only if they have to be counted or compared. Otherwise a few at each login are enough to
-- remove all expired ones in time.
local roll = arguments.roll
local needs_all = limit or arguments.by or roll or arguments.created_since or device_id or #arguments.replaces > 0
local searches = is_large(index)
if searches == nil and needs_all then return AGAIN end
local most = needs_all and HALF or 10

-- Return the ids of the records that may have to be removed, apart from those that the limit evicts.
local function ids_to_consider()
  local ids = {}
  if arguments.by then ids[1] = arguments.by end
  if roll then ids[#ids + 1] = roll.id end
  local function append(members)
    for _, id in ipairs(ids_of(members)) do ids[#ids + 1] = id end
  end
  append(between(expiring, expiring .. digits(arguments.now + 1), most))
  if arguments.created_since then append(between(created, created .. digits(arguments.created_since), most)) end
  append(beginning_with(unconfirmed, STEP))
  if device_id then append(beginning_with('d' .. measured(audience) .. measured(device_id), STEP)) end
  for _, digest in ipairs(arguments.replaces) do
    local old = redis.call('ZSCORE', index, digest) and read(digest)
    if old then ids[#ids + 1] = old[ID] end
  end
  return ids
end

-- `count` is the number of records of the audience that have neither expired nor been removed. The catalogue knows how
-- many confirmed ones there are. The unconfirmed ones have to be read, because Redis may have expired them.
local found, gone, count
if searches then
  found, gone = parse(load_by_id(index, ids_to_consider()))
  count = number_between(expiring .. digits(arguments.now + 1), expiring .. '\255')
    + math.max(0, number_between(unconfirmed, unconfirmed .. '\255') - STEP)
else
  found, gone = parse(load_all(index, not needs_all and 10 or nil))
  count = 0
end

local live, removed, answer, seen, authorizing, rolled = {}, {}, {}, {}, nil, nil
local function remove(old, why)
  removed[#removed + 1], answer[#answer + 1] = old, '["' .. why .. '",' .. old.text .. ']'
  if not is_expired(old.fields) then count = count - 1 end
end

for _, old in ipairs(found) do
  local fields = old.fields
  seen[fields[ID]] = true
  if fields[ID] == arguments.by and not is_expired(fields) and not is_unconfirmed(fields) then authorizing = old end
  if audience_of(fields) == audience then
    if roll and fields[ID] == roll.id and field(fields, EXPIRES_AT) == roll.before and is_live(fields)
      and not is_unconfirmed(fields) then
      rolled = old
    end
    if not is_expired(fields) and (not searches or is_unconfirmed(fields)) then count = count + 1 end
    if not is_live(fields) then
      remove(old, 'expired')
    elseif replaced[old.digest] or (device_id and field(fields, DEVICE_ID) == device_id) then
      remove(old, 'replaced')
    elseif old == rolled and roll['until'] <= arguments.now then
      count = count - 1 -- The confirmation removes it.
    else
      live[#live + 1] = old
    end
  end
end

if (arguments.by and not authorizing) or (roll and not rolled) then
  refuse_replica()
  return 0
end

-- Remove the records found so far, and have the caller run the script again. Only the last run stores the new record.
-- The records `by` and `roll` are spared until then, because they have to allow the new record in the last run too.
local function unfinished()
  local done = {}
  for number, old in ipairs(removed) do
    if old ~= authorizing and old ~= rolled then gone[#gone + 1], done[#done + 1] = old, answer[number] end
  end
  delete(index, gone)
  return keep_answer(answer_key, done, true)
end

-- As long as there are records that are too old and were not read, `count` is not exact: some may have expired.
if searches and limit and arguments.created_since
  and number_between(created, created .. digits(arguments.created_since)) > most then
  return unfinished()
end

local excess = limit and count + 1 - limit or 0
if excess > 0 and arguments.limit_policy == 'reject' then
  if searches then delete(index, gone) end -- Otherwise these would hide other unconfirmed records from the next login.
  refuse_replica()
  return nil
end

-- Add to `live` those records that come first in a part of the catalogue.
local function find_first(part, number)
  local members = between(part, part .. '\255', number + #found)
  local others, others_gone = parse(load_by_id(index, ids_of(members)))
  for _, old in ipairs(others_gone) do gone[#gone + 1] = old end
  for _, old in ipairs(others) do
    if seen[old.id] then
      -- It is in `live` already, or has been removed.
    elseif is_live(old.fields) then
      live[#live + 1] = old
    else
      remove(old, 'expired')
    end
  end
end

if excess > 0 then
  local is_by_creation, number = arguments.limit_policy == 'evict_oldest', math.min(excess, HALF)
  if searches then find_first(is_by_creation and created or active, number) end
  local age = is_by_creation and function(fields) return fields[CREATED_AT] end or active_at
  table.sort(live, function(one, other)
    local its, others = age(one.fields), age(other.fields)
    return its < others or (its == others and one.fields[ID] < other.fields[ID])
  end)
  for place = 1, math.min(number, #live) do remove(live[place], 'evicted') end
  if count + 1 > limit then return unfinished() end
end

-- The command that needs memory comes first: if Redis is out of memory, nothing has been changed.
record[LAST_USED_AT], record[RENEWED_BY] = record[LAST_USED_AT] or cjson.null, UNCONFIRMED
redis.call('SET', key, cjson.encode(record), 'PX', arguments.unconfirmed)
redis.call('ZADD', index, score(record), digest_of(key))
link(digest_of(key), record)
for _, old in ipairs(removed) do
  gone[#gone + 1] = old
  if old == rolled then rolled = nil end
end
delete(index, gone)
if rolled then answer[#answer + 1] = '["rolled","' .. rolled.digest .. '"]' end
extend_index(index, digest_of(key))
return keep_answer(answer_key, answer, false)
