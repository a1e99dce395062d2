-- End the records of a user that have expired, and those of an audience that are too old.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer is kept
-- ARGV[1]  audience              whose records may be too old
--          now, created_since    milliseconds
--          digest                of the one record to look at; absent: all
-- Result   an array of the records that have ended
-- Idempotent: repeated, it finds its answer.

refuse_replica()
local index, answer_key = KEYS[1], KEYS[2]
local answered = recall(answer_key)
if answered then return answered end

local found, gone = look(index)
local answer = {}
for _, pair in ipairs(found) do
  local digest, record = pair[1], pair[2]
  local is_dead = is_expired(record) or (is_of(record, told.audience) and is_too_old(record))
  if is_dead and (told.digest == nil or told.digest == digest) then
    gone[#gone + 1], answer[#answer + 1] = digest, record
  end
end
delete(index, gone)
return answer_with(answer_key, answer)
