-- Remove the expired records of a user, and the user's records of one audience that are too old.
--
-- KEYS[1]  the user's index      KEYS[2]  where to keep the answer
-- ARGV[1]  audience              the audience that `created_since` applies to
--          now, created_since    milliseconds
--          digest                the digest of the one record to consider; all records if it is absent
-- Result   an array of the records that were removed
-- Idempotent: a repetition returns the kept answer. An empty answer is not kept, because nothing was removed.

return remove_where(KEYS[1], KEYS[2], function(digest, record)
  local is_dead = is_expired(record) or (audience_of(record) == arguments.audience and is_too_old(record))
  return is_dead and (arguments.digest == nil or arguments.digest == digest)
end)
