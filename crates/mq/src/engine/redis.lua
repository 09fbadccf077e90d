-- Shared by all scripts of the queue in Redis. ARGV[1] is the prefix, ARGV[2] the topic; times are milliseconds of
-- the server's clock. Of a topic: s stream, e entries made, o options, gs groups, d:<id> dedup ids, z delayed by time,
-- b their content. Of a group: o options, l leased and r retried entries by time, a attempts and token of each.
local prefix, topic = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function key(name) return prefix .. ':' .. #name .. ':' .. name .. ':' end
local T = key(topic)
local function group_key(t, name) return t .. 'g:' .. #name .. ':' .. name .. ':' end
local function wake(name) redis.call('PUBLISH', prefix .. ':wake', name) end

local function add(t, id, k, d, h, b)
  redis.call('XADD', t .. 's', redis.call('INCR', t .. 'e') .. '-0', 'i', id, 'k', k, 'd', d, 'h', h, 'b', b)
end

local function store(t, delay, k, d, h, b)
  local id = redis.call('INCR', prefix .. ':ids')
  local o = redis.call('HMGET', t .. 'o', 'window', 'hold')
  local window = tonumber(o[1] or 600000)
  if d ~= '' and window > 0 then
    local first = redis.call('GET', t .. 'd:' .. d)
    if first then return '=' .. first end
    redis.call('SET', t .. 'd:' .. d, id, 'PX', window)
  end
  if (o[2] or '1') == '1' or redis.call('SCARD', t .. 'gs') > 0 then
    if delay > 0 then
      redis.call('ZADD', t .. 'z', now + delay, id)
      redis.call('HSET', t .. 'b', id, cmsgpack.pack({k, d, h, b}))
    else
      add(t, id, k, d, h, b)
    end
  end
  return tostring(id)
end

local function length(n)
  local out = ''
  while n >= 128 do
    out = out .. string.char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  return out .. string.char(n)
end
local function header(name, value) return length(#name) .. name .. length(#value) .. value end

local function entry(e)
  local found = redis.call('XRANGE', T .. 's', e .. '-0', e .. '-0')[1]
  if not found then return nil end
  local fields = {}
  for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
  return fields
end

-- Whether a group has an entry still before it or in work.
local function needed(e)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', T .. 's')) do
    local of = {}
    for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
    if tonumber(e) > tonumber(string.match(of['last-delivered-id'], '^%d+')) then return true end
    local g = group_key(T, of['name'])
    if redis.call('ZSCORE', g .. 'l', e) or redis.call('ZSCORE', g .. 'r', e) then return true end
  end
  return false
end

local function done(group, G, e)
  redis.call('XACK', T .. 's', group, e .. '-0')
  redis.call('ZREM', G .. 'l', e)
  redis.call('ZREM', G .. 'r', e)
  redis.call('HDEL', G .. 'a', e)
  if not needed(e) then redis.call('XDEL', T .. 's', e .. '-0') end
end

local function bury(group, G, e, attempts, reason)
  local f = entry(e)
  if f then
    local dead = redis.call('HGET', G .. 'o', 'dead')
    local h = f.h .. header('mq-dead-reason', reason) .. header('mq-dead-topic', topic)
      .. header('mq-dead-group', group) .. header('mq-dead-id', f.i) .. header('mq-dead-attempts', tostring(attempts))
    store(key(dead), 0, f.k, '', h, f.b)
    wake(dead)
  end
  done(group, G, e)
end

local function used_up(attempts) return attempts .. ' deliveries without success' end
