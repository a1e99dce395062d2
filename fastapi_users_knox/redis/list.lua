-- List the records of a user and audience, live or not.
--
-- KEYS[1]  the user's index
-- ARGV[1]  audience
-- Result   an array of records
-- It changes nothing, so it can be repeated.

local records = {}
for _, pair in ipairs((read_all(KEYS[1]))) do
  local record = pair[2]
  if audience_of(record) == arguments.audience and field(record, RENEWED_BY) ~= UNCONFIRMED then
    records[#records + 1] = cjson.encode(record)
  end
end
refuse_replica() -- At the end, because SCRIPT KILL does not stop a script that has written, and this one may take long.
return records
