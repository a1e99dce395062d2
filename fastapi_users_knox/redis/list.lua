-- List the records of a user and audience, live or not.
--
-- KEYS[1]  the user's index
-- ARGV[1]  audience
-- Result   an array of records
-- Writes nothing, so it may be repeated.

refuse_replica()
local records = {}
for _, pair in ipairs((look(KEYS[1]))) do
  if is_of(pair[2], told.audience) then records[#records + 1] = cjson.encode(pair[2]) end
end
return records
