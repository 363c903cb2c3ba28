-- --- attributes -----------------------------------------------------------------------------------------------------------

local function block_bytes(p)
  return tonumber(call('HGET', p .. 'counters', 'block'))
end

local function chmod(p, inode, mode)
  inode.mode = bor(type_of(inode.mode), band(mode, 4095))
  local access = call('HGET', p .. 'x:' .. inode.ino, ACL_ACCESS)
  if access then call('HSET', p .. 'x:' .. inode.ino, ACL_ACCESS, acl_with(access, mode)) end
end

local function resize(p, inode, size)
  if type_of(inode.mode) ~= S_IFREG then fail(is_dir(inode.mode) and 'EISDIR' or 'EINVAL') end
  cut(p, inode, size, block_bytes(p))
  inode.size = size
  inode.rev = inode.rev + 1
end

-- operation, session, slot, number, ino, now, kill, touched, then pairs of what changes and its value
-- `kill`: set-id bits go. `touched`: "" leaves the times alone that are not named, "c" sets ctime, "m" mtime too.
function frees.setattr(c, args)
  local p, now, kill, touched = c.p, args[6], args[7], args[8]
  local inode = needed(p, args[5])
  local resized = false
  for at = 9, #args, 2 do
    local field, value = args[at], args[at + 1]
    if field == 'size' then
      resize(p, inode, tonumber(value))
      resized = true
    elseif field ~= 'mode' then
      inode[field] = value
    end
  end
  if kill == '1' then drop_privileges(p, inode) end
  for at = 9, #args, 2 do
    if args[at] == 'mode' then chmod(p, inode, tonumber(args[at + 1])) end
  end
  local given = {}
  for at = 9, #args, 2 do given[args[at]] = true end
  if touched ~= '' and not given.ctime then inode.ctime = now end
  if touched == 'm' and not given.mtime then inode.mtime = now end
  store(p, inode)
  tell(c, (resized and 'c ' or 'a ') .. inode.ino)
  return { 'ok', packed(inode) }
end

-- --- openings -------------------------------------------------------------------------------------------------------------

-- operation, session, slot, number, ino, truncate, kill, now
function frees.open(c, args)
  local p, truncate = c.p, args[6] == '1'
  local inode = needed(p, args[5])
  if truncate then
    resize(p, inode, 0)
    if args[7] == '1' then drop_privileges(p, inode) end
    inode.mtime, inode.ctime = args[8], args[8]
    store(p, inode)
    tell(c, 'c ' .. inode.ino)
  end
  hold(p, c.sid, inode.ino)
  return { 'ok', packed(inode) }
end

-- A session has no opening of this file any more. True when the file went with it.
local function let_go(p, sid, ino)
  call('SREM', p .. 'h:' .. ino, sid)
  call('SREM', p .. 'held:' .. sid, ino)
  local inode = attributes(p, ino)
  if not inode or inode.nlink > 0 or call('SCARD', p .. 'h:' .. ino) > 0 then return false end
  destroy(p, inode)
  return true
end

-- operation, session, slot, number, ino...
function frees.close(c, args)
  for at = 5, #args do let_go(c.p, c.sid, args[at]) end
  return { 'ok' }
end

-- operation, session, slot, number, then pairs: ino, when it was read. Nobody else has to hear of that.
function frees.accessed(c, args)
  for at = 5, #args, 2 do
    local key = c.p .. 'i:' .. args[at]
    if call('EXISTS', key) == 1 then call('HSET', key, 'atime', args[at + 1]) end
  end
  return { 'ok' }
end

-- --- contents -------------------------------------------------------------------------------------------------------------

-- operation, ino, index...: revision, size, then an entry or false for each
function reads.map(c, args)
  local inode = needed(c.p, args[2])
  local indexes = {}
  for at = 3, #args do indexes[at - 2] = args[at] end
  local entries = #indexes > 0 and call('HMGET', c.p .. 'b:' .. args[2], unpack(indexes)) or {}
  return { 'ok', packed(inode), entries }
end

-- operation, ino: the whole map, for fsck and for SEEK_DATA
function reads.whole_map(c, args)
  local inode = needed(c.p, args[2])
  return { 'ok', packed(inode), call('HGETALL', c.p .. 'b:' .. args[2]) }
end

-- operation, session, slot, number, ino, time of the last write, end of the writes, kill, then triples: index, entry that the
-- new one is made from ("" for none), new entry ("" for a hole). All or nothing: where a map has changed meanwhile
-- nothing is written, and the entries in force are answered.
function writes.publish(c, args)
  local p, ino, mtime, stop = c.p, args[5], args[6], tonumber(args[7])
  local inode = needed(p, ino)
  local key = p .. 'b:' .. ino
  local conflicts, current = {}, {}
  for at = 9, #args, 3 do
    local entry = call('HGET', key, args[at]) or ''
    current[at] = entry
    if entry ~= args[at + 1] then
      conflicts[#conflicts + 1] = args[at]
      conflicts[#conflicts + 1] = entry
    end
  end
  if #conflicts > 0 then return { 'ECONFLICT', packed(inode), conflicts } end
  local added = 0
  for at = 9, #args, 3 do
    if current[at] ~= '' then added = added - discard(p, current[at]) end
    local entry = args[at + 2]
    if entry == '' then
      call('HDEL', key, args[at])
    else
      call('HSET', key, args[at], entry)
      added = added + tonumber(string.match(entry, ':(%d+)$'))
    end
  end
  inode.alloc = inode.alloc + added
  sum(p, 'bytes', added)
  if stop > inode.size then inode.size = stop end
  inode.rev = inode.rev + 1
  inode.mtime, inode.ctime = mtime, mtime
  if args[8] == '1' then drop_privileges(p, inode) end
  store(p, inode)
  tell(c, 'c ' .. ino)
  return { 'ok', packed(inode) }
end

-- operation, session, slot, number, ino, revision: writes something, for a WAIT behind it, and tells a loss
function frees.sync(c, args)
  if needed(c.p, args[5]).rev < tonumber(args[6]) then return { 'ELOST' } end
  return { 'ok' }
end

-- --- extended attributes ----------------------------------------------------------------------------------------------------

function reads.getxattr(c, args)
  local value = call('HGET', c.p .. 'x:' .. args[2], args[3])
  if value then return { 'ok', value } end
  needed(c.p, args[2])
  return { 'ENODATA' }
end

function reads.listxattr(c, args)
  needed(c.p, args[2])
  return { 'ok', call('HKEYS', c.p .. 'x:' .. args[2]) }
end

-- operation, session, slot, number, ino, name, value, flags, kill set-group-id, most bytes, now
function writes.setxattr(c, args)
  local p, name, value, flags, now = c.p, args[6], args[7], tonumber(args[8]), args[11]
  local inode = needed(p, args[5])
  local key = p .. 'x:' .. inode.ino
  local known = call('HEXISTS', key, name) == 1
  if known and band(flags, 1) ~= 0 then fail('EEXIST') end
  if not known and band(flags, 2) ~= 0 then fail('ENODATA') end
  if name == ACL_DEFAULT and not is_dir(inode.mode) then fail('EACCES') end
  local bytes = #name + #value
  local all = call('HGETALL', key)
  for at = 1, #all, 2 do
    if all[at] ~= name then bytes = bytes + #all[at] + #all[at + 1] end
  end
  if bytes > tonumber(args[10]) then fail('ENOSPC') end
  local keep = true
  if name == ACL_ACCESS then
    local mode, minimal = acl_mode(value)
    inode.mode = bor(band(inode.mode, bnot(511)), mode)
    if args[9] == '1' then inode.mode = band(inode.mode, bnot(S_ISGID)) end
    keep = not minimal
  end
  if keep then call('HSET', key, name, value) else call('HDEL', key, name) end
  inode.ctime = now
  store(p, inode)
  tell(c, 'a ' .. inode.ino)
  return { 'ok', packed(inode) }
end

-- operation, session, slot, number, ino, name, now
function frees.removexattr(c, args)
  local inode = needed(c.p, args[5])
  if call('HDEL', c.p .. 'x:' .. inode.ino, args[6]) == 0 then fail('ENODATA') end
  inode.ctime = args[7]
  store(c.p, inode)
  tell(c, 'a ' .. inode.ino)
  return { 'ok', packed(inode) }
end
