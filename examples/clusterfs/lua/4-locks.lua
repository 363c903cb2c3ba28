-- --- locks ------------------------------------------------------------------------------------------------------------------
--
-- A field of {v}:l:INO is "p SESSION OWNER" (POSIX) or "f SESSION OWNER" (flock), its value a list of {start, end, kind, pid}.
-- -1 as an end is the end of the file however far it grows.

local function ranges_of(value)
  return value and cmsgpack.unpack(value) or {}
end

local function edge(number)
  return number < 0 and math.huge or number
end

local function meet(one, other)
  return one[1] <= edge(other[2]) and other[1] <= edge(one[2])
end

-- The lock that stands in the way: field, range.
local function conflict(p, ino, field, wanted)
  if wanted[3] == 'u' then return nil end
  local all = call('HGETALL', p .. 'l:' .. ino)
  for at = 1, #all, 2 do
    if all[at] ~= field and string.sub(all[at], 1, 1) == string.sub(field, 1, 1) then
      for _, range in ipairs(ranges_of(all[at + 1])) do
        if meet(range, wanted) and (range[3] == 'w' or wanted[3] == 'w') then return all[at], range end
      end
    end
  end
  return nil
end

-- What an owner holds in the range becomes the new lock, or nothing; locks of one kind that touch become one.
local function replaced(held, wanted)
  local start, stop, kind = wanted[1], edge(wanted[2]), wanted[3]
  local result = {}
  for _, lock in ipairs(held) do
    local last = edge(lock[2])
    if lock[1] > stop + 1 or start > last + 1 then
      result[#result + 1] = lock
    elseif lock[3] == kind then
      start, stop = math.min(start, lock[1]), math.max(stop, last)
    else
      if lock[1] < start then result[#result + 1] = { lock[1], math.min(last, start - 1), lock[3], lock[4] } end
      if last > stop then result[#result + 1] = { math.max(lock[1], stop + 1), lock[2], lock[3], lock[4] } end
    end
  end
  if kind ~= 'u' then result[#result + 1] = { start, stop == math.huge and -1 or stop, kind, wanted[4] } end
  for _, lock in ipairs(result) do
    if lock[2] == math.huge then lock[2] = -1 end
  end
  return result
end

local function keep(p, ino, sid, field, ranges)
  local key = p .. 'l:' .. ino
  if #ranges == 0 then
    call('HDEL', key, field)
  else
    call('HSET', key, field, cmsgpack.pack(ranges))
    call('SADD', p .. 'locked:' .. sid, ino)
  end
end

-- Who waits for something on this file hears that it may be free.
local function freed(c, ino)
  if call('EXISTS', c.p .. 'w:' .. ino) == 1 then tell(c, 'l ' .. ino) end
end

local function wait_no_more(p, ino, waiter)
  call('HDEL', p .. 'waits', waiter)
  call('SREM', p .. 'w:' .. ino, waiter)
end

-- Whether `holder` waits, over any number of others, for `owner`.
local function leads_to(p, holder, owner)
  local seen = {}
  local at = holder
  while at and not seen[at] do
    if at == owner then return true end
    seen[at] = true
    at = call('HGET', p .. 'waits', at)
  end
  return false
end

local function owner_of(field)
  return string.sub(field, 3)
end

local function session_of(field)
  return string.match(field, '^. (%d+) ')
end

-- operation, session, ino, owner, start, end, kind
function reads.getlk(c, args)
  local wanted = { tonumber(args[5]), tonumber(args[6]), args[7] }
  local field, range = conflict(c.p, args[3], 'p ' .. args[2] .. ' ' .. args[4], wanted)
  if not field then return { 'ok', false } end
  return { 'ok', { text(range[1]), text(range[2]), range[3], range[4], session_of(field) } }
end

-- operation, session, slot, number, ino, "p" or "f", owner, start, end, kind, pid, "wait" or ""
-- Answers the inode; or EAGAIN with the milliseconds until the lease of who is in the way runs out.
function writes.lock(c, args)
  local p, ino, family, wait = c.p, args[5], args[6], args[12] == 'wait'
  local waiter = c.sid .. ' ' .. args[7]
  local field = family .. ' ' .. waiter
  local inode = needed(p, ino)
  local wanted = { tonumber(args[8]), tonumber(args[9]), args[10], args[11] }
  local key = p .. 'l:' .. ino
  local blocking = conflict(p, ino, field, wanted)
  while blocking do
    local sid = session_of(blocking)
    local lease = tonumber(call('ZSCORE', p .. 'sessions', sid) or 0)
    local left = lease - now_ms()
    if left > 0 then
      -- flock gives up what it holds before it asks for the other kind (flock(2): the conversion is not atomic).
      if family == 'f' and call('HDEL', key, field) == 1 then freed(c, ino) end
      if not wait then return { 'EAGAIN', text(left) } end
      if family == 'p' and leads_to(p, owner_of(blocking), waiter) then
        wait_no_more(p, ino, waiter)
        return { 'EDEADLK', text(left) }
      end
      call('HSET', p .. 'waits', waiter, owner_of(blocking))
      call('SADD', p .. 'w:' .. ino, waiter)
      return { 'EAGAIN', text(left) }
    end
    -- Its lease ran out: it has nothing any more, and can change nothing any more either.
    if call('ZREM', p .. 'sessions', sid) == 1 then call('ZADD', p .. 'dying', text(now_ms()), sid) end
    call('HDEL', key, blocking)
    blocking = conflict(p, ino, field, wanted)
  end
  keep(p, ino, c.sid, field, replaced(ranges_of(call('HGET', key, field)), wanted))
  wait_no_more(p, ino, waiter)
  if wanted[3] ~= 'w' then freed(c, ino) end
  return { 'ok', packed(inode) }
end

-- operation, session, slot, number, ino, then "p" or "f", owner, start, end: also of a file that is gone
function frees.unlock(c, args)
  local p, ino = c.p, args[5]
  local key = p .. 'l:' .. ino
  for at = 6, #args, 4 do
    local field = args[at] .. ' ' .. c.sid .. ' ' .. args[at + 1]
    local held = call('HGET', key, field)
    if held then
      keep(p, ino, c.sid, field, replaced(ranges_of(held), { tonumber(args[at + 2]), tonumber(args[at + 3]), 'u' }))
    end
  end
  freed(c, ino)
  return { 'ok' }
end

-- operation, session, slot, number, ino, owner: a wait was given up
function frees.unwait(c, args)
  wait_no_more(c.p, args[5], c.sid .. ' ' .. args[6])
  return { 'ok' }
end
