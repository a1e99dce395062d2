-- Find a record, live or not, that is stored under one of several digests.
--
-- KEYS     where the record may be stored, the most likely key first
-- ARGV[1]  audience
-- Result   the number of the key and the record, or nil if there is no such record
-- It also reads the index of the record's user. It changes nothing, so it can be repeated.

refuse_replica()
for number, key in ipairs(KEYS) do
  local text = redis.call('GET', key)
  local record = text and cjson.decode(text)
  if record and audience_of(record) == ARGV[1] and field(record, RENEWED_BY) ~= UNCONFIRMED then
    local index = base .. 'user:' .. record[USER_ID]
    refuse_migration(key, index)
    if redis.call('ZSCORE', index, digest_of(key)) then return {number, text} end
  end
end
return nil
