-- List the records of a user and audience, live or not: all of them, or one part of them after the other.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- ARGV[1]  audience
--          step                  see catalogue.lua
--          cursor                where this part begins: '~' at first, then as the part before has returned it
-- Result   an array: the cursor of the next part, which is empty after the last one, and then the records
-- It changes no record, so it can be repeated.

refuse_replica()
local index, cursor = KEYS[1], arguments.cursor
local searches = is_large(index)
if searches == nil then return {cursor} end

local function listed(next_cursor, records)
  local result = {next_cursor}
  for _, record in ipairs(records) do result[#result + 1] = record.text end
  return result
end

if not searches then
  local found = select_records((parse(load_all(index))), function(fields)
    return audience_of(fields) == arguments.audience and not is_unconfirmed(fields)
  end)
  return listed('', found)
end

-- The parts follow the order of creation, in which nothing moves between two of them.
local prefix = 'c' .. measured(arguments.audience)
local members = between(prefix, prefix .. cursor, STEP, true)
local last = members[STEP]
return listed(last and string.sub(last, #prefix + 1) or '', load_by_id(index, ids_of(members)))
