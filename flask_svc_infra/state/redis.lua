-- The rules of ledger.py where the server runs them: one script, one step, the server's clock.
-- KEYS: revision, records, tallies, documents, journal. ARGV: operation, arguments as JSON, bell.
local REVISION, RECORDS, TALLIES, DOCUMENTS, JOURNAL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FARTHEST, LARGEST, BUCKETS, JOURNAL_LENGTH = 30 * 86400000, 99999999999999, 60, 1000
local STATES = { closed = true, open = true, half_open = true }
local TIME = redis.call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local operation, args = ARGV[1], cjson.decode(ARGV[2])

local function whole(value, least, most)
  return type(value) == 'number' and value == math.floor(value) and value >= least and value <= most
end

local function read(key, name)
  local text = redis.call('HGET', key, name)
  if not text then return nil end
  local good, value = pcall(cjson.decode, text)
  if good and type(value) == 'table' then return value end
  return nil
end

local function write(key, name, value)
  redis.call('HSET', key, name, cjson.encode(value))
  redis.call('PEXPIRE', key, FARTHEST)
end

local function revision_of()
  local text = redis.call('GET', REVISION)
  local revision = text and string.find(text, '^%d+$') and tonumber(text) or 0
  return whole(revision, 1, LARGEST) and revision or 0
end

-- Where there is a revision these are there too, if only to be missed: a server short of memory drops whole keys.
local function mark()
  write(RECORDS, '', {})
  write(DOCUMENTS, '', {})
end

local function change(kind, name, what, reason)
  if revision_of() == 0 then
    redis.call('SET', REVISION, string.format('%.0f', now))
    mark()
  end
  local revision = redis.call('INCR', REVISION)
  redis.call('PEXPIRE', REVISION, FARTHEST)
  redis.call('LPUSH', JOURNAL, cjson.encode({
    at = now, kind = kind, name = name, what = what, reason = reason, actor = args.actor }))
  redis.call('LTRIM', JOURNAL, 0, JOURNAL_LENGTH - 1)
  redis.call('PEXPIRE', JOURNAL, FARTHEST)
  redis.call('PUBLISH', ARGV[3], revision)
end

local function times(value)
  local held, count = {}, 0
  if type(value) == 'table' then
    for key, stop in pairs(value) do
      if type(key) == 'string' and whole(stop, now + 1, now + FARTHEST) then
        held[key], count = stop, count + 1
      end
    end
  end
  return held, count
end

local function record_of(name)
  local found = read(RECORDS, name)
  if not found or not STATES[found.state] or not whole(found.epoch, 0, LARGEST)
    or not whole(found['until'], 0, now + FARTHEST) or not whole(found.opens, 0, LARGEST)
    or not whole(found.successes, 0, LARGEST) or type(found.reason) ~= 'string' then
    return nil
  end
  found.leases, found.leased = times(found.leases)
  found.votes, found.voted = times(found.votes)
  return found
end

local function shown(record)
  if not record then return cjson.null end
  return { epoch = record.epoch, state = record.state, remaining = math.max(0, record['until'] - now),
    opens = record.opens, successes = record.successes, reason = record.reason }
end

local function claimed(state)
  return { epoch = args.epoch, state = state, ['until'] = 0, opens = args.opens, successes = 0,
    reason = args.reason, leases = {}, votes = {}, leased = 0, voted = 0 }
end

local function save(record, old)
  write(RECORDS, args.name, { epoch = record.epoch, state = record.state, ['until'] = record['until'],
    opens = record.opens, successes = record.successes, reason = record.reason,
    leases = record.leases, votes = record.votes })
  if old then change('circuit', args.name, old .. ' -> ' .. record.state, record.reason) end
end

local function enter(record, state, reason)
  local old = record.state
  record.epoch = math.max(record.epoch, args.epoch) + 1
  record.state, record['until'], record.successes, record.reason = state, 0, 0, reason
  record.leases, record.votes, record.leased, record.voted = {}, {}, 0, 0
  if state == 'open' then
    record['until'], record.opens = now + args.recovery, record.opens + 1
  elseif state == 'closed' then
    record.opens = 0
  end
  save(record, old)
end

local function buckets_of(value)
  local buckets = {}
  if type(value) == 'table' then
    for _, each in ipairs(value) do
      if type(each) == 'table' and #each == 3 and whole(each[1], 0, LARGEST) and whole(each[2], 0, LARGEST)
        and whole(each[3], 0, LARGEST) then
        buckets[#buckets + 1] = { each[1], each[2], each[3] }
      end
    end
  end
  return buckets
end

local function tally_of(name, epoch)
  local found, windows = read(TALLIES, name), {}
  if not found or not whole(found.epoch, epoch, epoch) or not whole(found.run, 0, LARGEST)
    or type(found.windows) ~= 'table' then
    return { epoch = epoch, run = 0, windows = {} }
  end
  for key, value in pairs(found.windows) do
    local buckets = buckets_of(value)
    if type(key) == 'string' and #buckets > 0 then windows[key] = buckets end
  end
  return { epoch = epoch, run = found.run, windows = windows }
end

local function slide(buckets, window, calls)
  local last, tick = window.last, 0
  if last == 0 then tick = math.floor(now * BUCKETS / window.span) end
  if calls > 0 then
    local newest = buckets[#buckets]
    local full = last > 0 and newest and newest[3] * BUCKETS >= last
    if newest and not full and newest[1] == tick then
      newest[2], newest[3] = newest[2] + window.hits, newest[3] + calls
    else
      buckets[#buckets + 1] = { tick, window.hits, calls }
    end
  end
  local hits, total, first = 0, 0, 1
  for _, each in ipairs(buckets) do hits, total = hits + each[2], total + each[3] end
  while first <= #buckets do
    local oldest = buckets[first]
    if last > 0 and total - oldest[3] < last or last == 0 and oldest[1] > tick - BUCKETS then break end
    hits, total, first = hits - oldest[2], total - oldest[3], first + 1
  end
  local left = {}
  for index = first, #buckets do left[#left + 1] = buckets[index] end
  return left, hits, total
end

local function count(report)
  local record, sums = record_of(report.name), {}
  if record and (record.state ~= 'closed' or record.epoch > report.epoch) then
    for index = 1, #report.windows do sums[index] = { 0, 0 } end
    return { run = 0, windows = sums }
  end
  local tally = tally_of(report.name, report.epoch)
  tally.run = report.succeeded and report.run or tally.run + report.run
  for index, window in ipairs(report.windows) do
    local buckets, hits, total = slide(tally.windows[window.id] or {}, window, report.calls)
    tally.windows[window.id], sums[index] = buckets, { hits, total }
  end
  write(TALLIES, report.name, tally)
  return { run = tally.run, windows = sums }
end

local function document_of(key)
  local found = read(DOCUMENTS, key)
  if not found or not whole(found.version, 1, LARGEST) or not whole(found['until'], 0, LARGEST)
    or type(found.body) ~= 'string' or type(found.actor) ~= 'string' then
    return nil
  end
  local remaining = cjson.null
  if found['until'] > 0 then remaining = math.max(0, found['until'] - now) end
  local at = whole(found.at, 0, now) and found.at or 0
  return { version = found.version, body = found.body, actor = found.actor, remaining = remaining, age = now - at }
end

local operations = {}

function operations.sync()
  if args.probe then write(TALLIES, '', { at = now }) end -- first: a full server refuses only a first write
  redis.call('HDEL', TALLIES, '') -- as a writer: a replica must not pass for the store
  if redis.call('EXISTS', RECORDS, DOCUMENTS) < 2 and revision_of() > 0 then
    mark() -- what was dropped is told again by those who know it
    redis.call('PUBLISH', ARGV[3], redis.call('INCR', REVISION))
  end
  local reply = { tallies = {} }
  for index, report in ipairs(args.reports) do reply.tallies[index] = count(report) end
  local revision = revision_of()
  reply.revision = revision
  if revision ~= args.seen or revision == 0 then -- an empty store may have been emptied since
    reply.records, reply.documents, reply.ignored = {}, {}, {}
    for _, name in ipairs(redis.call('HKEYS', RECORDS)) do
      local record = record_of(name)
      if record then reply.records[name] = shown(record)
      elseif name ~= '' then table.insert(reply.ignored, name) end
    end
    for _, key in ipairs(redis.call('HKEYS', DOCUMENTS)) do
      reply.documents[key] = document_of(key)
      if not reply.documents[key] and key ~= '' then table.insert(reply.ignored, key) end
    end
    -- Whoever is new, or hears of a change, also keeps what never changes from running out.
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, FARTHEST) end
  end
  return reply
end

function operations.acquire()
  local record = record_of(args.name)
  if not record or record.epoch < args.epoch then record = claimed('open') end
  if record.state == 'open' and now >= record['until'] then
    enter(record, 'half_open', 'recovery timeout elapsed')
  end
  local granted = record.state == 'half_open' and record.leased < args.limit
  if granted then
    record.leases[args.permit] = now + args.lease
    save(record, nil)
  end
  return { granted = granted, record = shown(record) }
end

function operations.settle()
  local record = record_of(args.name)
  if not record or record.state ~= 'half_open' or record.epoch ~= args.epoch then
    return { record = shown(record) }
  end
  record.leases[args.permit] = nil
  if args.outcome == 'success' then record.successes = record.successes + 1 end
  if args.outcome == 'failure' then
    enter(record, 'open', args.reason)
  elseif record.successes >= args.threshold then
    enter(record, 'closed', args.reason)
  else
    save(record, nil)
  end
  return { record = shown(record) }
end

function operations.open()
  local record = record_of(args.name)
  if not record or record.epoch < args.epoch then record = claimed('closed') end
  if record.epoch == args.epoch and record.state ~= 'open' then
    if not record.votes[args.host] then record.voted = record.voted + 1 end
    record.votes[args.host] = now + args.vote
    if record.voted >= args.quorum then
      enter(record, 'open', args.reason)
    else
      save(record, nil)
    end
  end
  return { record = shown(record) }
end

function operations.restore()
  local record = record_of(args.name)
  if not record or record.epoch < args.epoch then
    local old = record and record.state or 'unknown'
    record = claimed(args.state)
    if args.state == 'open' then record['until'] = now + args.recovery end
    save(record, old)
  end
  return { record = shown(record) }
end

function operations.put()
  local held = document_of(args.key)
  local version = args.restore and args.version or args.version + 1
  if held then
    local known = held.body == args.body and held.actor == args.actor
    if held.age < args.age or args.restore and (known or held.age == args.age) then
      return { document = held }
    end
    version = math.max(version, held.version + 1)
  end
  version = math.min(version, LARGEST)
  local stop = 0
  if args.duration ~= cjson.null then stop = now + args.duration end
  write(DOCUMENTS, args.key, { version = version, body = args.body, actor = args.actor, ['until'] = stop,
    at = math.max(0, now - args.age) })
  change('document', args.key, args.what, args.reason)
  return { document = document_of(args.key) or cjson.null }
end

function operations.journal()
  local entries = {}
  for _, text in ipairs(redis.call('LRANGE', JOURNAL, 0, args.limit - 1)) do
    local good, entry = pcall(cjson.decode, text)
    if good and type(entry) == 'table' and pcall(cjson.encode, entry) then entries[#entries + 1] = entry end
  end
  return { entries = entries }
end

return cjson.encode(operations[operation]())
