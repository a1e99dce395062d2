-- The functions shared by the scripts that read or remove several records. This file comes after catalogue.lua.
--
-- They handle a record as a table: its `digest`, its `text` in Redis and, if they are needed, its `fields`, and if the
-- catalogue has it, its `id` and its `members` there. Redis has expired it if there is no `text`.

local NOTHING, AGAIN = '[false,[]]', '[true,[]]'

-- Read the text of these records.
local function load(index, records)
  if #records == 0 then return records end
  local keys = {}
  for number, record in ipairs(records) do keys[number] = base .. record.digest end
  for number, text in ipairs(redis.call('MGET', unpack(keys))) do
    if text then
      records[number].text = text
    else
      refuse_migration(index, keys[number])
    end
  end
  return records
end

-- Return all of a user's records, or the `most` that expire first.
local function load_all(index, most)
  local records = {}
  for number, digest in ipairs(redis.call('ZRANGE', index, 0, most and most - 1 or -1)) do
    records[number] = {digest = digest}
  end
  return load(index, records)
end

-- Return the records with these ids, each of them once.
local function load_by_id(index, ids)
  local records, seen = {}, {}
  for _, id in ipairs(ids) do
    if not seen[id] then
      local row, members = row_at(id)
      if row then records[#records + 1] = {digest = row[1], id = id, members = members} end
    end
    seen[id] = true
  end
  return load(index, records)
end

-- Parse records. Return those that exist, and those that Redis has expired.
local function parse(records)
  local found, gone = {}, {}
  for _, record in ipairs(records) do
    if record.text then
      record.fields = cjson.decode(record.text)
      found[#found + 1] = record
    else
      gone[#gone + 1] = record
    end
  end
  return found, gone
end

-- Return those records for which the function returns true for their fields.
local function select_records(records, is_meant)
  local selected = {}
  for _, record in ipairs(records) do
    if is_meant(record.fields) then selected[#selected + 1] = record end
  end
  return selected
end

-- Let the index expire together with the last of its records' keys. With many records, that is the last one in the index
-- whose key does not expire within GRACE: such a key may be that of an unconfirmed record, and others may outlive it.
local function shorten_index(index)
  local last, longest = redis.call('ZRANGE', index, 0, STEP - 1, 'REV'), 0
  local are_all = #last < STEP
  for _, digest in ipairs(last) do
    local ttl = redis.call('PTTL', base .. digest)
    if ttl == -1 then return end
    longest = math.max(longest, ttl)
    if longest > GRACE and not are_all then break end
  end
  if longest > GRACE or (longest > 0 and are_all) then redis.call('PEXPIRE', index, longest) end
end

-- Delete records with all that belongs to them.
local function delete(index, records)
  if #records == 0 then return end
  local keys, digests, members = {}, {}, {}
  for number, record in ipairs(records) do
    keys[number], digests[number] = base .. record.digest, record.digest
    local known = record.members
    if has_catalogue and not known and record.fields then known = select(2, row_at(record.fields[ID])) end
    for _, member in ipairs(known or {}) do members[#members + 1] = member end
  end
  redis.call('DEL', unpack(keys))
  redis.call('ZREM', index, unpack(digests))
  if #members > 0 then redis.call('ZREM', CATALOGUE, unpack(members)) end
  shorten_index(index)
  if has_catalogue and redis.call('ZCARD', index) <= HALF then drop_catalogue() end
  expire_catalogue(index)
end

-- Return the answer that was kept when this part of a call was run before. A client repeats it if its answer was lost.
local function kept_answer(answer_key)
  local part, answer = string.match(redis.call('GET', answer_key) or '', '^(%d+) (.*)$')
  if part == tostring(arguments.part) then return answer end
end

-- Return whether the caller has to run the script again, and what was removed, as JSON. If that is not nothing, keep
-- the answer for a repetition. The caller deletes it after it has received the answer of the last part.
local function keep_answer(answer_key, removed, is_unfinished)
  if #removed == 0 then return is_unfinished and AGAIN or NOTHING end
  local answer = '[' .. tostring(is_unfinished) .. ',[' .. table.concat(removed, ',') .. ']]'
  redis.call('SET', answer_key, arguments.part .. ' ' .. answer, 'PX', GRACE)
  return answer
end

-- Delete records, and those that are gone anyway, and return the texts of those that still exist.
local function remove_and_answer(index, answer_key, records, gone, is_unfinished)
  local removed = {}
  for _, record in ipairs(records) do
    gone[#gone + 1], removed[#removed + 1] = record, record.text
  end
  delete(index, gone)
  return keep_answer(answer_key, removed, is_unfinished)
end
