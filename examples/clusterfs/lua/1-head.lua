#!lua name=@NAME@
-- The metadata of clusterfs: each operation is one call, atomic, in the hash slot of its volume.
--
-- KEYS[1] is the volume's tag, `{name}`; every key is made from it, so that all are in one slot. Times are text,
-- `seconds.nanoseconds` with nine digits, given by the mount that asks; leases go by the server's clock.
--
--   {v}:volume            what the volume is, JSON          {v}:counters   hash: last inode, session and event, sums
--   {v}:i:INO             hash of attributes                {v}:d:INO      hash name -> "ino type"
--   {v}:x:INO             hash of extended attributes       {v}:b:INO      hash block index -> "id:length"
--   {v}:h:INO             set of sessions that have it open {v}:l:INO      hash of locks, {v}:w:INO set of who waits for one
--   {v}:sessions          zset session -> end of its lease  {v}:session:S  {v}:held:S  {v}:locked:S  {v}:replies:S
--   {v}:garbage           list of "milliseconds block id"   {v}:dead       list of "milliseconds ino", maps in {v}:g:INO
--   {v}:events            stream of what changed            {v}:waits      hash: who waits -> for whom
--
-- An operation checks everything before it changes anything: an error leaves no trace.

local S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR = 61440, 16384, 32768, 40960, 8192
local S_ISUID, S_ISGID, S_IXGRP = 2048, 1024, 8
local ROOT = '1'
local EVENTS_MAX = 16384
local FIELDS = { 'mode', 'uid', 'gid', 'nlink', 'size', 'rdev', 'atime', 'mtime', 'ctime', 'btime', 'rev', 'alloc' }


-- While a library is loaded these are not there yet.
local function call(...)
  return redis.call(...)
end

local function band(one, other)
  return bit.band(one, other)
end

local function bor(one, other)
  return bit.bor(one, other)
end

local function bnot(one)
  return bit.bnot(one)
end

-- Whole numbers as text: Lua's own way loses digits from 1e14 on.
local function text(number)
  return string.format('%.0f', number)
end

local function fail(errno)
  error({ errno = errno }, 0)
end

local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function type_of(mode)
  return band(mode, S_IFMT)
end

local function is_dir(mode)
  return type_of(mode) == S_IFDIR
end

-- --- inodes ---------------------------------------------------------------------------------------------------------

local function attributes(p, ino)
  local values = call('HMGET', p .. 'i:' .. ino, unpack(FIELDS))
  if not values[1] then return nil end
  return {
    ino = ino,
    mode = tonumber(values[1]), uid = values[2], gid = values[3], nlink = tonumber(values[4]), size = tonumber(values[5]),
    rdev = values[6], atime = values[7], mtime = values[8], ctime = values[9], btime = values[10],
    rev = tonumber(values[11]), alloc = tonumber(values[12]),
  }
end

local function needed(p, ino)
  return attributes(p, ino) or fail('ESTALE')
end

local function directory(p, ino)
  local inode = needed(p, ino)
  if not is_dir(inode.mode) then fail('ENOTDIR') end
  return inode
end

-- An inode as it is answered.
local function packed(inode)
  return {
    inode.ino, text(inode.mode), inode.uid, inode.gid, text(inode.nlink), text(inode.size), inode.rdev,
    inode.atime, inode.mtime, inode.ctime, inode.btime, text(inode.rev), text(inode.alloc),
  }
end

local function store(p, inode)
  call('HSET', p .. 'i:' .. inode.ino, 'mode', text(inode.mode), 'uid', inode.uid, 'gid', inode.gid, 'nlink', text(inode.nlink),
    'size', text(inode.size), 'rdev', inode.rdev, 'atime', inode.atime, 'mtime', inode.mtime, 'ctime', inode.ctime,
    'btime', inode.btime, 'rev', text(inode.rev), 'alloc', text(inode.alloc))
end

local function find(p, parent, name)
  local entry = call('HGET', p .. 'd:' .. parent, name)
  if not entry then return nil end
  return string.match(entry, '^(%d+) ')
end

local function add_name(p, parent, name, inode)
  call('HSET', p .. 'd:' .. parent, name, inode.ino .. ' ' .. text(type_of(inode.mode)))
end

local function sum(p, field, change)
  if change ~= 0 then call('HINCRBY', p .. 'counters', field, text(change)) end
end

-- Privileges that a change of contents or owner takes away (setattr_should_drop_suidgid).
local function drop_privileges(p, inode)
  inode.mode = band(inode.mode, bnot(S_ISUID))
  if band(inode.mode, S_IXGRP) ~= 0 then inode.mode = band(inode.mode, bnot(S_ISGID)) end
  call('HDEL', p .. 'x:' .. inode.ino, 'security.capability')
end

-- --- blocks ---------------------------------------------------------------------------------------------------------

local function discard(p, entry)
  local id, length = string.match(entry, '^(.+):(%d+)$')
  call('RPUSH', p .. 'garbage', text(now_ms()) .. ' ' .. id)
  return tonumber(length)
end

-- Cuts the map of a file off at a size. What is left of the last block is told by its length: no data is touched.
local function cut(p, inode, size, block_bytes)
  if size >= inode.size then return end
  local key = p .. 'b:' .. inode.ino
  local keep = math.ceil(size / block_bytes)
  local freed = 0
  local function drop(index, entry)
    freed = freed + discard(p, entry)
    call('HDEL', key, index)
  end
  local last = math.ceil(inode.size / block_bytes)
  if size == 0 or last - keep > call('HLEN', key) then
    local all = call('HGETALL', key)
    for at = 1, #all, 2 do
      if tonumber(all[at]) >= keep then drop(all[at], all[at + 1]) end
    end
  else
    for index = keep, last - 1 do
      local entry = call('HGET', key, text(index))
      if entry then drop(text(index), entry) end
    end
  end
  local within = size % block_bytes
  if within > 0 then
    local index = text(keep - 1)
    local entry = call('HGET', key, index)
    local id, length = string.match(entry or '', '^(.+):(%d+)$')
    if id and tonumber(length) > within then
      call('HSET', key, index, id .. ':' .. text(within))
      freed = freed + tonumber(length) - within
    end
  end
  inode.alloc = inode.alloc - freed
  sum(p, 'bytes', -freed)
end

-- A file that nobody needs any more. Its map may be long, so it is only put aside: gc goes through it piece by piece.
local function destroy(p, inode)
  local ino = inode.ino
  if call('EXISTS', p .. 'b:' .. ino) == 1 then
    call('RENAME', p .. 'b:' .. ino, p .. 'g:' .. ino)
    call('RPUSH', p .. 'dead', text(now_ms()) .. ' ' .. ino)
  end
  call('DEL', p .. 'i:' .. ino, p .. 'd:' .. ino, p .. 'x:' .. ino, p .. 'h:' .. ino, p .. 'l:' .. ino, p .. 'w:' .. ino)
  sum(p, 'inodes', -1)
  sum(p, 'bytes', -inode.alloc)
end

-- A file with neither names nor openings goes; one with either is kept as it is now. True when it went.
local function settle(p, inode)
  if inode.nlink <= 0 and call('SCARD', p .. 'h:' .. inode.ino) == 0 then
    destroy(p, inode)
    return true
  end
  store(p, inode)
  return false
end

local function hold(p, sid, ino)
  call('SADD', p .. 'h:' .. ino, sid)
  call('SADD', p .. 'held:' .. sid, ino)
end

-- --- POSIX ACLs in the form of their extended attributes: a version, then entries of tag, permissions, id -------------

local ACL_ACCESS, ACL_DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'

local function u16(value, at)
  local low, high = string.byte(value, at, at + 1)
  return low + high * 256
end

-- Positions of the permissions that stand for owner, group (the mask, where there is one) and others.
local function acl_classes(value)
  if #value < 4 or (#value - 4) % 8 ~= 0 then fail('EINVAL') end
  if u16(value, 1) ~= 2 then fail('EOPNOTSUPP') end
  local at = {}
  for entry = 5, #value, 8 do at[u16(value, entry)] = entry + 2 end
  local user, group, other = at[1], at[16] or at[4], at[32]
  if not (user and group and other) then fail('EINVAL') end
  return user, group, other
end

local function acl_mode(value)
  local user, group, other = acl_classes(value)
  local mode = band(u16(value, user), 7) * 64 + band(u16(value, group), 7) * 8 + band(u16(value, other), 7)
  return mode, #value == 4 + 3 * 8
end

local function acl_with(value, mode)
  local user, group, other = acl_classes(value)
  local function put(at, permissions)
    value = string.sub(value, 1, at - 1) .. string.char(permissions, 0) .. string.sub(value, at + 2)
  end
  put(user, band(math.floor(mode / 64), 7))
  put(group, band(math.floor(mode / 8), 7))
  put(other, band(mode, 7))
  return value
end

-- --- operations and what they tell ------------------------------------------------------------------------------------

local reads, writes, frees = {}, {}, {}

-- What changed, for other mounts: `c INO` contents, `a INO` attributes, `n PARENT NAME` a name, `l INO` a lock was freed.
local function tell(c, what)
  c.events[#c.events + 1] = what
end

local function publish_events(c)
  if #c.events == 0 then return end
  local number = call('HINCRBY', c.p .. 'counters', 'event', 1)
  local words = { 'n', number, 's', c.sid }
  for _, event in ipairs(c.events) do
    words[#words + 1] = 'e'
    words[#words + 1] = event
  end
  call('XADD', c.p .. 'events', 'MAXLEN', '~', EVENTS_MAX, '*', unpack(words))
end

local function guarded(operation, c, args)
  local ok, reply = pcall(operation, c, args)
  if ok then return reply end
  if type(reply) == 'table' and reply.errno then return { reply.errno } end
  error(reply, 0)
end

local function read(keys, args)
  local operation = reads[args[1]]
  if not operation then return { 'ENOSYS' } end
  return guarded(operation, { p = keys[1] .. ':', events = {} }, args)
end

-- ARGV: operation, session, slot, number, then what the operation takes. A session has slots for calls in flight; each keeps
-- the answer to the last call made by it. The same number again is the same call, whose answer was lost on its way.
local function change(operations)
  return function(keys, args)
    local p, sid, slot, number = keys[1] .. ':', args[2], args[3], args[4]
    local operation = operations[args[1]]
    if not operation then return { 'ENOSYS' } end
    local replies = p .. 'replies:' .. sid
    if sid ~= '' then
      if not call('ZSCORE', p .. 'sessions', sid) then return { 'ESESSION' } end
      local last = call('HGET', replies, slot)
      if last then
        local known = cmsgpack.unpack(last)
        if known[1] == number then
          -- Written again, so that a WAIT on this connection waits for something.
          call('HSET', replies, slot, last)
          return known[2]
        end
      end
    end
    local c = { p = p, sid = sid, events = {} }
    local reply = guarded(operation, c, args)
    publish_events(c)
    if sid ~= '' then call('HSET', replies, slot, cmsgpack.pack({ number, reply })) end
    return reply
  end
end
