-- End the records of a user that have expired, and those of an audience that are too old.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer is kept
-- ARGV[1]  audience              whose records may be too old
--          now, created_since    milliseconds
--          digest                of the one record to look at; absent: all
-- Result   an array of the records that have ended
-- Idempotent: repeated, it finds its answer, if that was not empty.

return end_those(KEYS[1], KEYS[2], function(digest, record)
  local is_dead = is_expired(record) or (audience_of(record) == told.audience and is_too_old(record))
  return is_dead and (told.digest == nil or told.digest == digest)
end)
