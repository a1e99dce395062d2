-- Confirm a new record, because its caller has received the answer. From now on its token is accepted, and its key
-- expires like that of any other record. In the same step, a record that it replaces later gets its new expiry, or is
-- removed if that has passed.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- KEYS[3]  where the answer was kept                                    KEYS[4]  where the record is stored
-- ARGV[1]  now                   milliseconds
--          roll, rolled          as in add.lua, and the digest that it returned
--          step                  see catalogue.lua
-- Result   1, even if another call has removed the record since; 0 if no record of the user is left; 2 if the record
--          `roll` has ended or changed, so that the new record was removed
-- Idempotent: a repetition finds the record confirmed, or finds that it was refused, and returns the same.

local REFUSED = 'refused'
if redis.call('GET', KEYS[3]) == REFUSED then return 2 end
redis.call('DEL', KEYS[3])
local index, digest, roll = KEYS[1], digest_of(KEYS[4]), arguments.roll
local record = read(digest)
if not record then return redis.call('EXISTS', index) end
if not is_unconfirmed(record) then return 1 end

if arguments.rolled then
  local old = read(arguments.rolled)
  local is_same = old and redis.call('ZSCORE', index, arguments.rolled) and old[ID] == roll.id
  if not is_same or field(old, EXPIRES_AT) ~= roll.before then
    delete(index, {{digest = digest, fields = record}})
    redis.call('SET', KEYS[3], REFUSED, 'PX', GRACE)
    return 2
  end
  if roll['until'] <= arguments.now then
    delete(index, {{digest = arguments.rolled, fields = old}})
  else
    old[EXPIRES_AT] = roll['until']
    set_field(old, TOKEN_TTL, 0)
    store(index, arguments.rolled, old)
    link(arguments.rolled, old)
  end
end

record[RENEWED_BY] = cjson.null
store(index, digest, record)
link(digest, record)
extend_index(index, digest)
return 1
