-- Put a live record under a new digest.
--
-- KEYS[1]  the user's index      KEYS[2]  where the record is           KEYS[3]  where it is to be
-- ARGV[1]  digest, new_digest    the ends of these two keys; the new one is known to this call alone
--          now, created_since    milliseconds
-- Result   1 if the record is under the new digest, else 0
-- Idempotent: repeated, it finds the record where it is to be.

refuse_replica()
local index = KEYS[1]
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
local record = read(told.digest)
if not record or not redis.call('ZSCORE', index, told.digest) or not is_live(record) then return 0 end
move(index, told.digest, told.new_digest)
return 1
