-- Let a new record live as long as it is meant to: its login has the answer.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer was kept     KEYS[3]  where the record is
-- ARGV[1]  digest                the end of the record's key
--          now                   milliseconds
-- Result   nothing; the record may have been ended meanwhile
-- Idempotent: it sets what is so already.

redis.call('DEL', KEYS[2])
local record = read(told.digest)
if record then
  extend(told.digest, record)
  outlive(KEYS[1], told.digest)
end
