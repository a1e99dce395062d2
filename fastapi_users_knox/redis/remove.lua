-- Remove records of a user: one of them, those of one audience, or all.
--
-- KEYS[1]  the user's index      KEYS[2]  where to keep the answer
-- ARGV[1]  audience              the audience of the records; every audience if it is absent
--          id                    the id of the one record to remove; all records if it is absent
--          keep                  the id of one record that stays
-- Result   an array of the records that were removed, live or not
-- Idempotent: a repetition returns the kept answer. An empty answer is not kept, because nothing was removed.

return remove_where(KEYS[1], KEYS[2], function(_, record)
  return record[ID] ~= arguments.keep
    and (arguments.id == nil or record[ID] == arguments.id)
    and (arguments.audience == nil or audience_of(record) == arguments.audience)
end)
