-- Let a new record count, and live as long as it is meant to: its login has the answer.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer was kept     KEYS[3]  where the record is
-- ARGV[1]  now                   milliseconds
-- Result   1, also if another login has ended the record meanwhile; 0 if all of the user's are gone
-- Idempotent: it sets what is so already.

redis.call('DEL', KEYS[2])
local digest = digest_of(KEYS[3])
local record = read(digest)
if not record then return redis.call('EXISTS', KEYS[1]) end
if field(record, RENEWED_BY) == UNCONFIRMED then
  record[RENEWED_BY] = cjson.null
  redis.call('SET', KEYS[3], cjson.encode(record))
  extend(digest, record)
  outlive(KEYS[1], digest)
end
return 1
