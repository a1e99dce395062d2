-- Confirm a new record, because its caller has received the answer. From now on its token is accepted, and its key
-- expires like that of any other record.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- KEYS[3]  where the answer was kept                                    KEYS[4]  where the record is stored
-- ARGV[1]  now                   milliseconds
-- Result   1, even if another call has removed the record since; 0 if no record of the user is left
-- Idempotent: a repetition finds the record confirmed, and returns the same.

redis.call('DEL', KEYS[3])
local digest = digest_of(KEYS[4])
local record = read(digest)
if not record then return redis.call('EXISTS', KEYS[1]) end
if is_unconfirmed(record) then
  record[RENEWED_BY] = cjson.null
  redis.call('SET', KEYS[4], cjson.encode(record))
  set_ttl(digest, record)
  link(digest, record)
  extend_index(KEYS[1], digest)
end
return 1
