-- End records of a user: one, those of an audience, or all.
--
-- KEYS[1]  the user's index      KEYS[2]  where the answer is kept
-- ARGV[1]  audience              whose records; absent: every audience's
--          id                    of the one record to end; absent: all
--          keep                  the id of one that stays
-- Result   an array of the records that have ended, live or not
-- Idempotent: repeated, it finds its answer, if that was not empty.

return end_those(KEYS[1], KEYS[2], function(_, record)
  return record[ID] ~= told.keep
    and (told.id == nil or record[ID] == told.id)
    and (told.audience == nil or audience_of(record) == told.audience)
end)
