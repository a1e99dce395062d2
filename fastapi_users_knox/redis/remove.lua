-- Remove one record of a user.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue          KEYS[3]  where to keep the answer
-- ARGV[1]  id, audience          of the record
--          step                  see catalogue.lua
--          part                  the number of runs before this one
-- Result   whether the caller has to run the script again, and an array of the record that was removed, live or not
-- Idempotent: a repetition returns the kept answer. An empty answer is not kept, because nothing was removed.

refuse_replica()
local index, answer_key, id = KEYS[1], KEYS[3], arguments.id
local answered = kept_answer(answer_key)
if answered then return answered end
local searches = is_large(index)
if searches == nil then return AGAIN end

local records = {}
if searches then
  records = load_by_id(index, {id})
else
  -- The id is the first field. Comparing texts takes a fraction of the time that parsing them would take.
  local beginning = '["' .. id .. '"'
  for _, record in ipairs(load_all(index)) do
    if record.text and string.sub(record.text, 1, #beginning) == beginning then records = {record} end
  end
end
local found, gone = parse(records)
found = select_records(found, function(fields) return audience_of(fields) == arguments.audience end)
return remove_and_answer(index, answer_key, found, gone, false)
