-- Record that a token was used: when, and by which call. Change its expiry and its digest if new values are passed.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- KEYS[3]  where the record is stored                                   KEYS[4]  where to store it, or the same key
-- ARGV[1]  now, created_since    milliseconds
--          unused_since          milliseconds: a record that was used then or later stays as it is
--          expires_at            milliseconds
--          call                  a number that only this call has
-- Result   1 if the record was written, otherwise 0
-- Idempotent: a repetition finds its own number in the record, and returns 1 again.

local index, digest, new_digest = KEYS[1], digest_of(KEYS[3]), digest_of(KEYS[4])
local record = read(digest) or read(new_digest)
if not record then return 0 end
if field(record, RENEWED_BY) == arguments.call then return 1 end

local expires_at = field(record, EXPIRES_AT)
if not redis.call('ZSCORE', index, digest) or is_unconfirmed(record) or not is_live(record) or active_at(record) >= arguments.unused_since
  or (arguments.expires_at and (not expires_at or arguments.expires_at <= expires_at))
  or (arguments.expires_at and field(record, TOKEN_TTL) == 0) then
  return 0
end

record[LAST_USED_AT], record[RENEWED_BY] = arguments.now, arguments.call
record[EXPIRES_AT] = arguments.expires_at or record[EXPIRES_AT]
store(index, digest, record)
if new_digest ~= digest then move(index, digest, new_digest) end
link(new_digest, record)
extend_index(index, new_digest)
return 1
