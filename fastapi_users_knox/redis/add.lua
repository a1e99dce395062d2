-- Store the record of a new token, not confirmed yet. Remove records that it replaces, that have expired, or that
-- exceed the limit.
--
-- KEYS[1]  the user's index      KEYS[2]  where to keep the answer      KEYS[3]  where to store the record
-- ARGV[1]  record                the new record, as an array of its fields
--          now, created_since    milliseconds
--          by                    the id of the same user's record that authorizes the new one
--          limit, limit_policy   the largest number of live records of the audience, this one included
--          replaces              digests of the records that this one replaces
--          unconfirmed           milliseconds until the record expires if it is not confirmed. Redis may run the script
--                                after its caller has given up, and then the record must not count for long.
-- Result   an array of pairs: "expired", "replaced" or "evicted", and the record that was removed for this reason;
--          nil: the limit is reached, and nothing was changed;
--          0: the record `by` does not exist or has expired, and nothing was changed
-- Idempotent: a repetition finds its record or its answer, and returns the same.

local index, answer_key, record = KEYS[1], KEYS[2], arguments.record
local answered = kept_answer(answer_key)
if answered then return answered end
if redis.call('EXISTS', KEYS[3]) == 1 then return '[]' end

local replaced = {}
for _, digest in ipairs(arguments.replaces) do replaced[digest] = true end
local device_id = field(record, DEVICE_ID)

-- All records are read only if they have to be counted or compared. Otherwise each login reads only a few. This is
-- enough to remove all expired records in time, and keeps a login fast for a user with thousands of records.
local needs_all = arguments.limit or arguments.by or arguments.created_since or device_id or #arguments.replaces > 0
local found, gone = read_all(index, not needs_all and 10 or nil)
local live, answer, authorizing = {}, {}, nil
local function remove(digest, why, old)
  gone[#gone + 1], answer[#answer + 1] = digest, {why, old}
end

for _, pair in ipairs(found) do
  local digest, old = pair[1], pair[2]
  if old[ID] == arguments.by and not is_expired(old) and field(old, RENEWED_BY) ~= UNCONFIRMED then
    authorizing = old
  end
  if audience_of(old) == audience_of(record) then
    if not is_live(old) then
      remove(digest, 'expired', old)
    elseif replaced[digest] or (device_id and field(old, DEVICE_ID) == device_id) then
      remove(digest, 'replaced', old)
    else
      live[#live + 1] = pair
    end
  end
end

if arguments.by and not authorizing then
  refuse_replica()
  return 0
end

local excess = arguments.limit and #live + 1 - arguments.limit or 0
if excess > 0 and arguments.limit_policy == 'reject' then
  refuse_replica()
  return nil
end

if excess > 0 then
  local age = arguments.limit_policy == 'evict_oldest' and function(old) return old[CREATED_AT] end or active_at
  table.sort(live, function(one, other)
    local its, others = age(one[2]), age(other[2])
    return its < others or (its == others and one[2][ID] < other[2][ID])
  end)
  for number = 1, excess do
    remove(live[number][1], 'evicted', live[number][2])
  end
end

-- The command that needs memory comes first: if Redis is out of memory, nothing has been changed.
record[LAST_USED_AT], record[RENEWED_BY] = record[LAST_USED_AT] or cjson.null, UNCONFIRMED
redis.call('SET', KEYS[3], cjson.encode(record), 'PX', arguments.unconfirmed)
redis.call('ZADD', index, score(record), digest_of(KEYS[3]))
delete(index, gone)
extend_index(index, digest_of(KEYS[3]))
return keep_answer(answer_key, answer)
