-- Store a live record under a new digest.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue
-- KEYS[3]  where the record is stored                                   KEYS[4]  where to store it
-- ARGV[1]  now, created_since    milliseconds
--          authenticated_at      milliseconds: the new value of the field; absent if the field stays as it is
--          data                  the same, as JSON
-- Result   1 if the record is stored under the new digest, otherwise 0
-- Idempotent: a repetition finds the record under the new digest, which only this call knows.

refuse_replica()
local index, digest = KEYS[1], digest_of(KEYS[3])
if redis.call('EXISTS', KEYS[4]) == 1 then return 1 end
local record = read(digest)
if not record or not redis.call('ZSCORE', index, digest) or is_unconfirmed(record) or not is_live(record) then
  return 0
end
if arguments.authenticated_at then
  set_field(record, AUTHENTICATED_AT, arguments.authenticated_at)
  if arguments.data then set_field(record, DATA, arguments.data) end
  redis.call('SET', KEYS[3], cjson.encode(record), 'KEEPTTL')
end
move(index, digest, digest_of(KEYS[4]))
link(digest_of(KEYS[4]), record)
return 1
