-- List the records of a user and audience, live or not.
--
-- KEYS[1]  the user's index
-- ARGV[1]  audience
-- Result   an array of records
-- Writes nothing, so it may be repeated.

local records = {}
for _, pair in ipairs((look(KEYS[1]))) do
  local record = pair[2]
  if audience_of(record) == told.audience and field(record, RENEWED_BY) ~= UNCONFIRMED then
    records[#records + 1] = cjson.encode(record)
  end
end
refuse_replica() -- At the end: a script that has written cannot be killed, and this one may take long.
return records
