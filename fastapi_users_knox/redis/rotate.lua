-- Put a live record under a new digest.
--
-- KEYS[1]  the user's index      KEYS[2]  where the record is           KEYS[3]  where it is to be
-- ARGV[1]  now, created_since    milliseconds
-- Result   1 if the record is under the new digest, else 0
-- Idempotent: repeated, it finds the record where it is to be, under a digest that only this call knows.

refuse_replica()
local index, digest = KEYS[1], digest_of(KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
local record = read(digest)
if not record or not redis.call('ZSCORE', index, digest) or not is_live(record) then return 0 end
move(index, digest, digest_of(KEYS[3]))
return 1
