-- Remove a user's expired records, and in one audience also those that are past the cap.
--
-- KEYS[1]  the user's index      KEYS[2]  the user's catalogue          KEYS[3]  where to keep the answer
-- ARGV[1]  audience              the audience that `created_since` applies to
--          now, created_since    milliseconds
--          digest                the digest of the one record to consider; all records if it is absent
--          step                  see catalogue.lua
--          part                  the number of runs before this one
-- Result   whether the caller has to run the script again, and an array of the records that were removed
-- Idempotent: a repetition returns the kept answer. An empty answer is not kept, because nothing was removed.

refuse_replica()
local index, answer_key = KEYS[1], KEYS[3]
local answered = kept_answer(answer_key)
if answered then return answered end

local function is_dead(fields)
  return is_expired(fields) or (audience_of(fields) == arguments.audience and is_too_old(fields))
end

if arguments.digest then
  local is_ours = redis.call('ZSCORE', index, arguments.digest)
  local found = parse(load(index, is_ours and {{digest = arguments.digest}} or {}))
  return remove_and_answer(index, answer_key, select_records(found, is_dead), {}, false)
end

local searches = is_large(index)
if searches == nil then return AGAIN end
if not searches then
  local found, gone = parse(load_all(index))
  return remove_and_answer(index, answer_key, select_records(found, is_dead), gone, false)
end

local ids = {}
local function append(others)
  for _, id in ipairs(others) do ids[#ids + 1] = id end
end
if arguments.created_since then
  local prefix = 'c' .. measured(arguments.audience)
  append(ids_of(between(prefix, prefix .. digits(arguments.created_since), HALF + 1)))
end
local first = between('e', 'f', 1)[1]
while first and #ids <= HALF do -- one audience after the other
  local prefix = string.sub(first, 1, -(DIGITS + ID_LENGTH + 1))
  append(ids_of(between(prefix, prefix .. digits(arguments.now + 1), HALF + 1)))
  first = between(prefix .. '\255', 'f', 1)[1]
end
local found, gone = parse(load_by_id(index, {unpack(ids, 1, math.min(HALF, #ids))}))
found = select_records(found, is_dead)
return remove_and_answer(index, answer_key, found, gone, #ids > HALF and #found + #gone > 0)
