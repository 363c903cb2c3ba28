-- --- sessions ---------------------------------------------------------------------------------------------------------------

-- operation, "", "", "", lease in milliseconds, JSON of who it is. Answers the session, the number and place of the last event.
function frees.session_begin(c, args)
  local p = c.p
  if call('EXISTS', p .. 'volume') == 0 then fail('EVOLUME') end
  local sid = text(call('HINCRBY', p .. 'counters', 'session', 1))
  local now = now_ms()
  call('ZADD', p .. 'sessions', text(now + tonumber(args[5])), sid)
  call('HSET', p .. 'session:' .. sid, 'info', args[6], 'since', text(now), 'lease', args[5])
  local newest = call('XREVRANGE', p .. 'events', '+', '-', 'COUNT', 1)
  return { 'ok', sid, call('HGET', p .. 'counters', 'event') or '0', newest[1] and newest[1][1] or '0-0' }
end

-- Takes away what a session had, at most so many things at a time. True when nothing is left.
local function bury(c, sid, most)
  local p = c.p
  local left = most
  for _, ino in ipairs(call('SRANDMEMBER', p .. 'locked:' .. sid, left)) do
    local key = p .. 'l:' .. ino
    for _, field in ipairs(call('HKEYS', key)) do
      if session_of(field) == sid then call('HDEL', key, field) end
    end
    for _, waiter in ipairs(call('SMEMBERS', p .. 'w:' .. ino)) do
      if string.match(waiter, '^(%d+) ') == sid then wait_no_more(p, ino, waiter) end
    end
    call('SREM', p .. 'locked:' .. sid, ino)
    freed(c, ino)
    left = left - 1
  end
  if left > 0 then
    for _, ino in ipairs(call('SRANDMEMBER', p .. 'held:' .. sid, left)) do
      let_go(p, sid, ino)
      left = left - 1
    end
  end
  if left <= 0 then return false end
  for _, id in ipairs(call('LRANGE', p .. 'collecting:' .. sid, 0, -1)) do
    call('RPUSH', p .. 'garbage', '0 ' .. id)
  end
  call('DEL', p .. 'collecting:' .. sid, p .. 'locked:' .. sid, p .. 'held:' .. sid, p .. 'session:' .. sid, p .. 'replies:' .. sid)
  call('ZREM', p .. 'dying', sid)
  return true
end

local BURIALS = 200

-- operation, "", "", "", session, lease. Answers the milliseconds until the next lease of another ends ("" for none), and
-- whether sessions are left to bury. Everybody who is alive buries.
function frees.heartbeat(c, args)
  local p, sid = c.p, args[5]
  local now = now_ms()
  if not call('ZSCORE', p .. 'sessions', sid) then return { 'ESESSION' } end
  call('ZADD', p .. 'sessions', text(now + tonumber(args[6])), sid)
  for _, other in ipairs(call('ZRANGEBYSCORE', p .. 'sessions', '-inf', text(now))) do
    call('ZREM', p .. 'sessions', other)
    call('ZADD', p .. 'dying', text(now), other)
  end
  local dying = call('ZRANGE', p .. 'dying', 0, 0)[1]
  local left = '0'
  if dying then
    bury(c, dying, BURIALS)
    if call('ZCARD', p .. 'dying') > 0 then left = '1' end
  end
  local next = call('ZRANGE', p .. 'sessions', 0, 1, 'WITHSCORES')
  local at = next[1] == sid and next[4] or next[2]
  return { 'ok', at and text(tonumber(at) - now) or '', left }
end

-- operation, "", "", "", session: its end in order. Answers whether it has to be called again.
function frees.session_end(c, args)
  local p, sid = c.p, args[5]
  if call('ZREM', p .. 'sessions', sid) == 1 then call('ZADD', p .. 'dying', text(now_ms()), sid) end
  if not call('ZSCORE', p .. 'dying', sid) then return { 'ok', '0' } end
  return { 'ok', bury(c, sid, BURIALS) and '0' or '1' }
end

function reads.sessions(c)
  local p = c.p
  local result = {}
  local all = call('ZRANGE', p .. 'sessions', 0, -1, 'WITHSCORES')
  for at = 1, #all, 2 do
    local sid = all[at]
    result[#result + 1] = {
      sid, text(tonumber(all[at + 1]) - now_ms()), call('HGET', p .. 'session:' .. sid, 'info') or '{}',
      text(call('SCARD', p .. 'held:' .. sid)), text(call('SCARD', p .. 'locked:' .. sid)),
    }
  end
  return { 'ok', result }
end

-- --- garbage ----------------------------------------------------------------------------------------------------------------

-- operation, session, slot, number, grace in milliseconds, most. Answers block ids that nothing names any more. They are kept in the
-- session's list until `collected`, so that they come back when it dies.
function frees.collect(c, args)
  local p, most = c.p, tonumber(args[6])
  local before = now_ms() - tonumber(args[5])
  local ids = {}
  local function take(id)
    ids[#ids + 1] = id
    call('RPUSH', p .. 'collecting:' .. c.sid, id)
  end
  while #ids < most do
    local head = call('LINDEX', p .. 'garbage', 0)
    if not head then break end
    local at, id = string.match(head, '^(%d+) (.+)$')
    if tonumber(at) > before then break end
    call('LPOP', p .. 'garbage')
    take(id)
  end
  while #ids < most do
    local head = call('LINDEX', p .. 'dead', 0)
    if not head then break end
    local at, ino = string.match(head, '^(%d+) (%d+)$')
    if tonumber(at) > before then break end
    local key = p .. 'g:' .. ino
    local part = call('HRANDFIELD', key, most - #ids, 'WITHVALUES')
    for field = 1, #part, 2 do
      take(string.match(part[field + 1], '^(.+):%d+$'))
      call('HDEL', key, part[field])
    end
    if call('EXISTS', key) == 0 then call('LPOP', p .. 'dead') end
  end
  return { 'ok', ids }
end

-- operation, session, slot, number: what was collected is deleted
function frees.collected(c)
  call('DEL', c.p .. 'collecting:' .. c.sid)
  return { 'ok' }
end

-- --- the volume -------------------------------------------------------------------------------------------------------------

-- operation, "", "", "", JSON, block bytes, mode, uid, gid, now
function writes.format(c, args)
  local p = c.p
  if call('EXISTS', p .. 'volume') == 1 then fail('EEXIST') end
  call('SET', p .. 'volume', args[5])
  call('HSET', p .. 'counters', 'inode', ROOT, 'session', '0', 'event', '0', 'inodes', '1', 'bytes', '0', 'block', args[6])
  local now = args[10]
  store(p, {
    ino = ROOT, mode = bor(S_IFDIR, tonumber(args[7])), uid = args[8], gid = args[9], nlink = 2, size = 4096, rdev = '0',
    atime = now, mtime = now, ctime = now, btime = now, rev = 0, alloc = 0,
  })
  call('HSET', p .. 'i:' .. ROOT, 'parent', ROOT)
  return { 'ok' }
end

function reads.volume(c)
  local p = c.p
  local counters = call('HMGET', p .. 'counters', 'inodes', 'bytes', 'inode', 'session', 'event')
  return {
    'ok', call('GET', p .. 'volume'), counters, text(call('LLEN', p .. 'garbage')), text(call('LLEN', p .. 'dead')),
    text(call('ZCARD', p .. 'sessions')),
  }
end

-- --- repairs: each is checked again here, since the volume may be in use -----------------------------------------------------

-- operation, session, slot, number, parent, name, ino: removes a name whose inode is not there
function frees.repair_name(c, args)
  local p = c.p
  if find(p, args[5], args[6]) == args[7] and not attributes(p, args[7]) then
    call('HDEL', p .. 'd:' .. args[5], args[6])
    tell(c, 'n ' .. args[5] .. ' ' .. args[6])
    return { 'ok', '1' }
  end
  return { 'ok', '0' }
end

-- operation, session, slot, number, ino, "nlink" or "alloc" or "parent", value found, value that is right
function frees.repair_field(c, args)
  local p = c.p
  if call('HGET', p .. 'i:' .. args[5], args[6]) ~= args[7] then return { 'ok', '0' } end
  call('HSET', p .. 'i:' .. args[5], args[6], args[8])
  tell(c, 'a ' .. args[5])
  return { 'ok', '1' }
end

-- operation, session, slot, number, counter, change
function frees.repair_counter(c, args)
  call('HINCRBY', c.p .. 'counters', args[5], args[6])
  return { 'ok', '1' }
end

-- operation, session, slot, number, ino: an inode that no directory names and nobody has open
function frees.repair_orphan(c, args)
  local p = c.p
  local inode = attributes(p, args[5])
  if not inode or call('SCARD', p .. 'h:' .. args[5]) > 0 then return { 'ok', '0' } end
  destroy(p, inode)
  return { 'ok', '1' }
end

redis.register_function({ function_name = '@NAME@_read', callback = read, flags = { 'no-writes' } })
redis.register_function('@NAME@_write', change(writes))
-- What makes room, or needs next to none, must go on when memory is full.
redis.register_function({ function_name = '@NAME@_free', callback = change(frees), flags = { 'allow-oom' } })
