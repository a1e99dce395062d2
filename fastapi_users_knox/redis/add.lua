-- Store the record of a login, to be confirmed soon; end what it replaces, what has expired and what the limit leaves
-- no room for.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer is kept      KEYS[3]  where the record is to be
-- ARGV[1]  record                the array of its fields
--          now, created_since    milliseconds
--          by                    the id of the user's record on whose strength this one is issued
--          limit, limit_policy   how many live records of the audience there may be, this one included
--          replaces              digests of tokens whose records end
--          unconfirmed           milliseconds that the record has till it is confirmed: a login whose caller has given
--                                up, but which Redis obeys later, is not to take a place for long
-- Result   an array of pairs, why and what: "expired", "replaced" or "evicted", and the record that has ended;
--          nil: the limit is reached, and nothing was changed
--          0: the record `by` is not there, or has expired, and nothing was changed
-- Idempotent: repeated, it finds its record or its answer, and answers the same.

local index, answer_key, record = KEYS[1], KEYS[2], told.record
local answered = recall(answer_key)
if answered then return answered end
if redis.call('EXISTS', KEYS[3]) == 1 then return '[]' end

local replaced = {}
for _, digest in ipairs(told.replaces) do replaced[digest] = true end
local device_id = field(record, DEVICE_ID)

-- All records are looked at where they have to be counted or compared. Else a few are enough to clear away what has
-- expired, sooner or later, and a login takes no longer for a user who has thousands.
local is_bound = told.limit or told.by or told.created_since or device_id or #told.replaces > 0
local found, gone = look(index, not is_bound and 10 or nil)
local live, answer, authorizing = {}, {}, nil
local function finish(digest, why, old)
  gone[#gone + 1], answer[#answer + 1] = digest, {why, old}
end

for _, pair in ipairs(found) do
  local digest, old = pair[1], pair[2]
  if old[ID] == told.by and not is_expired(old) and field(old, RENEWED_BY) ~= UNCONFIRMED then authorizing = old end
  if audience_of(old) == audience_of(record) then
    if not is_live(old) then
      finish(digest, 'expired', old)
    elseif replaced[digest] or (device_id and field(old, DEVICE_ID) == device_id) then
      finish(digest, 'replaced', old)
    else
      live[#live + 1] = pair
    end
  end
end

if told.by and not authorizing then
  refuse_replica()
  return 0
end

local excess = told.limit and #live + 1 - told.limit or 0
if excess > 0 and told.limit_policy == 'reject' then
  refuse_replica()
  return nil
end

if excess > 0 then
  local age = told.limit_policy == 'evict_oldest' and function(old) return old[CREATED_AT] end or active_at
  table.sort(live, function(one, other)
    local its, others = age(one[2]), age(other[2])
    return its < others or (its == others and one[2][ID] < other[2][ID])
  end)
  for number = 1, excess do
    finish(live[number][1], 'evicted', live[number][2])
  end
end

-- The first write is the one that needs memory: where there is none, nothing has changed.
record[LAST_USED_AT], record[RENEWED_BY] = record[LAST_USED_AT] or cjson.null, UNCONFIRMED
redis.call('SET', KEYS[3], cjson.encode(record), 'PX', told.unconfirmed)
redis.call('ZADD', index, score(record), digest_of(KEYS[3]))
delete(index, gone)
outlive(index, digest_of(KEYS[3]))
return answer_with(answer_key, answer)
