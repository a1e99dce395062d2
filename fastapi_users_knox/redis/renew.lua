-- Note that a record is used: when, by which call, and its later expiry and new digest if they are told.
--
-- KEYS[1]  the user's index      KEYS[2]  where the record is           KEYS[3]  where it is to be, or the same
-- ARGV[1]  now, created_since    milliseconds
--          unused_since          milliseconds: what was last used then or later stays as it is
--          expires_at            milliseconds
--          call                  a number of this call's own
-- Result   1 if it was written, else 0
-- Idempotent: repeated, it finds its own number in the record, and answers 1 again.

local index, digest, new_digest = KEYS[1], digest_of(KEYS[2]), digest_of(KEYS[3])
local record = read(digest) or read(new_digest)
if not record then return 0 end
if field(record, RENEWED_BY) == told.call then return 1 end

local expires_at = field(record, EXPIRES_AT)
if not redis.call('ZSCORE', index, digest) or not is_live(record) or active_at(record) >= told.unused_since
  or (told.expires_at and (not expires_at or told.expires_at <= expires_at)) then
  return 0
end

record[LAST_USED_AT], record[RENEWED_BY] = told.now, told.call
record[EXPIRES_AT] = told.expires_at or record[EXPIRES_AT]
redis.call('SET', KEYS[2], cjson.encode(record))
extend(digest, record)
redis.call('ZADD', index, score(record), digest)
if new_digest ~= digest then move(index, digest, new_digest) end
outlive(index, new_digest)
return 1
