-- End records of a user: one, those of an audience, or all.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer is kept
-- ARGV[1]  audience              whose records; absent: every audience's
--          id                    of the one record to end; absent: all
--          keep                  the id of one that stays
-- Result   an array of the records that have ended, live or not
-- Idempotent: repeated, it finds its answer.

refuse_replica()
local index, answer_key = KEYS[1], KEYS[2]
local answered = recall(answer_key)
if answered then return answered end

local found, gone = look(index)
local answer = {}
for _, pair in ipairs(found) do
  local record = pair[2]
  local is_meant = told.id == nil or record[ID] == told.id
  if is_meant and record[ID] ~= told.keep and (told.audience == nil or is_of(record, told.audience)) then
    gone[#gone + 1], answer[#answer + 1] = pair[1], record
  end
end
delete(index, gone)
return answer_with(answer_key, answer)
