-- Remove the records of a user: those of one audience, or all.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue          KEYS[3]  where to keep the answer
-- ARGV[1]  audience              the audience of the records; every audience if it is absent
--          keep                  the id of one record that stays
--          keep_scoped           whether the records with scopes stay; allowed only if `audience` is absent
--          step                  see catalogue.lua
--          part                  the number of runs before this one
-- Result   whether the caller has to run the script again, and an array of the records that were removed, live or not
-- Idempotent: a repetition returns the kept answer. An empty answer is not kept, because nothing was removed.

refuse_replica()
local index, answer_key, audience = KEYS[1], KEYS[3], arguments.audience
local answered = kept_answer(answer_key)
if answered then return answered end
local searches = is_large(index)
if searches == nil then return AGAIN end

if not searches then
  local found, gone = parse(load_all(index))
  found = select_records(found, function(fields)
    return fields[ID] ~= arguments.keep and (audience == nil or audience_of(fields) == audience)
      and not (arguments.keep_scoped and field(fields, SCOPES))
  end)
  return remove_and_answer(index, answer_key, found, gone, false)
end

-- The last run removes all that is left. So it does not matter what was stored, renewed or rotated between two runs: the
-- effect is that of removing all records in this moment. Logins cannot keep the caller from coming to the last run,
-- because in the time of a run, which removes many records, Redis can only store a few.
local ids, most = {}, HALF + 2 -- one more than this run removes, and the one that stays
local function append(others)
  for _, id in ipairs(others) do
    if id ~= arguments.keep then ids[#ids + 1] = id end
  end
end
if audience == nil then
  append(ids_of_rows(beginning_with('i', most)))
  if not arguments.keep_scoped then append(ids_of_rows(beginning_with('k', most))) end
else
  append(ids_of(beginning_with('u' .. measured(audience), most)))
  append(ids_of(beginning_with('c' .. measured(audience), most)))
end
local records = load_by_id(index, {unpack(ids, 1, math.min(HALF, #ids))})
return remove_and_answer(index, answer_key, records, {}, #ids > HALF)
