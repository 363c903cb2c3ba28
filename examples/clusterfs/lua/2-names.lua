-- --- names --------------------------------------------------------------------------------------------------------------

-- operation, parent, name
function reads.lookup(c, args)
  directory(c.p, args[2])
  local ino = find(c.p, args[2], args[3])
  if not ino then return { 'ENOENT' } end
  local inode = attributes(c.p, ino)
  if not inode then return { 'EDANGLING', ino } end
  return { 'ok', packed(inode) }
end

-- operation, ino
function reads.getattr(c, args)
  return { 'ok', packed(needed(c.p, args[2])) }
end

-- operation, ino, ...: false for one that is gone
function reads.attributes(c, args)
  local found = {}
  for at = 2, #args do
    local inode = attributes(c.p, args[at])
    found[at - 1] = inode and packed(inode) or false
  end
  return { 'ok', found }
end

-- operation, ino, most: names, and attributes when there are no more than so many
function reads.list(c, args)
  directory(c.p, args[2])
  local parent = call('HGET', c.p .. 'i:' .. args[2], 'parent')
  local names = call('HGETALL', c.p .. 'd:' .. args[2])
  local found = {}
  if #names / 2 <= tonumber(args[3]) then
    for at = 2, #names, 2 do
      local inode = attributes(c.p, string.match(names[at], '^(%d+) '))
      found[at / 2] = inode and packed(inode) or false
    end
  end
  return { 'ok', parent or ROOT, names, found }
end

function reads.readlink(c, args)
  local target = call('HGET', c.p .. 'i:' .. args[2], 'target')
  if target then return { 'ok', target } end
  needed(c.p, args[2])
  return { 'EINVAL' }
end

local function includes(list, wanted)
  for one in string.gmatch(list, '%d+') do
    if one == wanted then return true end
  end
  return false
end

-- A new inode as its directory wants it: with its group where that has the set-group-id bit, and its default ACL.
-- `asked`: mode, uid, gid, groups, umask, rdev, now, target.
local function make(c, folder, asked)
  local p, mode, gid = c.p, asked.mode, asked.gid
  local kind = type_of(mode)
  local setgid = band(folder.mode, S_ISGID) ~= 0
  if setgid then
    gid = folder.gid
    if kind == S_IFDIR then
      mode = bor(mode, S_ISGID)
    elseif band(mode, S_ISGID) ~= 0 and band(mode, S_IXGRP) ~= 0 and asked.uid ~= '0' and asked.gid ~= gid
      and not includes(asked.groups, gid) then
      -- A program that runs as the directory's group is not for those outside of it to make.
      mode = band(mode, bnot(S_ISGID))
    end
  end
  local inherited = kind ~= S_IFLNK and call('HGET', p .. 'x:' .. folder.ino, ACL_DEFAULT)
  local access
  if inherited then
    local allowed, minimal = acl_mode(inherited)
    mode = bor(band(mode, bnot(511)), band(band(mode, 511), allowed))
    if not minimal then access = acl_with(inherited, mode) end
  elseif kind ~= S_IFLNK then
    mode = band(mode, bnot(asked.umask))
  end
  local ino = text(call('HINCRBY', p .. 'counters', 'inode', 1))
  local now = asked.now
  local inode = {
    ino = ino, mode = mode, uid = asked.uid, gid = gid, nlink = kind == S_IFDIR and 2 or 1, size = 0, rdev = asked.rdev,
    atime = now, mtime = now, ctime = now, btime = now, rev = 0, alloc = 0,
  }
  if kind == S_IFLNK then
    inode.size = #asked.target
    call('HSET', p .. 'i:' .. ino, 'target', asked.target)
  elseif kind == S_IFDIR then
    inode.size = 4096
    call('HSET', p .. 'i:' .. ino, 'parent', folder.ino)
  end
  if access then call('HSET', p .. 'x:' .. ino, ACL_ACCESS, access) end
  if inherited and kind == S_IFDIR then call('HSET', p .. 'x:' .. ino, ACL_DEFAULT, inherited) end
  sum(p, 'inodes', 1)
  return inode
end

local function asked_of(args, at)
  return {
    mode = tonumber(args[at]), uid = args[at + 1], gid = args[at + 2], groups = args[at + 3], umask = tonumber(args[at + 4]),
    rdev = args[at + 5], now = args[at + 6], target = args[at + 7],
  }
end

-- operation, session, slot, number, parent, name, mode, uid, gid, groups, umask, rdev, now, target, "open" or "", xattrs...
function writes.make(c, args)
  local p, name = c.p, args[6]
  local folder = directory(p, args[5])
  if folder.nlink == 0 then fail('ENOENT') end
  local existing = find(p, folder.ino, name)
  if existing then return { 'EEXIST', existing } end
  local inode = make(c, folder, asked_of(args, 7))
  for at = 16, #args, 2 do call('HSET', p .. 'x:' .. inode.ino, args[at], args[at + 1]) end
  add_name(p, folder.ino, name, inode)
  if is_dir(inode.mode) then folder.nlink = folder.nlink + 1 end
  folder.mtime, folder.ctime = args[13], args[13]
  store(p, folder)
  store(p, inode)
  if args[15] == 'open' then hold(p, c.sid, inode.ino) end
  tell(c, 'n ' .. folder.ino .. ' ' .. name)
  return { 'ok', packed(inode), packed(folder) }
end

-- operation, session, slot, number, parent, mode, uid, gid, groups, umask, rdev, now
function writes.tmpfile(c, args)
  local folder = directory(c.p, args[5])
  local inode = make(c, folder, asked_of(args, 6))
  inode.nlink = 0
  store(c.p, inode)
  hold(c.p, c.sid, inode.ino)
  return { 'ok', packed(inode) }
end

-- operation, session, slot, number, ino, parent, name, now
function writes.link(c, args)
  local p, name, now = c.p, args[7], args[8]
  local inode = needed(p, args[5])
  local folder = directory(p, args[6])
  if is_dir(inode.mode) then fail('EPERM') end
  if folder.nlink == 0 then fail('ENOENT') end
  if find(p, folder.ino, name) then fail('EEXIST') end
  add_name(p, folder.ino, name, inode)
  inode.nlink = inode.nlink + 1
  inode.ctime = now
  folder.mtime, folder.ctime = now, now
  store(p, inode)
  store(p, folder)
  tell(c, 'n ' .. folder.ino .. ' ' .. name)
  tell(c, 'a ' .. inode.ino)
  return { 'ok', packed(inode), packed(folder) }
end

-- A name of an inode went.
local function unlinked(c, inode, now)
  inode.nlink = is_dir(inode.mode) and 0 or inode.nlink - 1
  inode.ctime = now
  tell(c, 'a ' .. inode.ino)
  return settle(c.p, inode)
end

local function removal(c, args, directories)
  local p, name, now = c.p, args[6], args[7]
  local folder = directory(p, args[5])
  local ino = find(p, folder.ino, name)
  if not ino then fail('ENOENT') end
  local inode = attributes(p, ino)
  if inode then
    if directories and not is_dir(inode.mode) then fail('ENOTDIR') end
    if not directories and is_dir(inode.mode) then fail('EISDIR') end
    if directories and call('EXISTS', p .. 'd:' .. ino) == 1 then fail('ENOTEMPTY') end
  end
  call('HDEL', p .. 'd:' .. folder.ino, name)
  if directories then folder.nlink = folder.nlink - 1 end
  folder.mtime, folder.ctime = now, now
  store(p, folder)
  tell(c, 'n ' .. folder.ino .. ' ' .. name)
  if not inode then return { 'ok', packed(folder), false, '1' } end
  local gone = unlinked(c, inode, now)
  return { 'ok', packed(folder), packed(inode), gone and '1' or '0' }
end

-- operation, session, slot, number, parent, name, now. Answers the directory, the inode after it, and whether that is gone.
function frees.unlink(c, args)
  return removal(c, args, false)
end

function frees.rmdir(c, args)
  return removal(c, args, true)
end

-- EINVAL for moving a directory below itself.
local function assert_outside(p, ino, below)
  local at = below
  while at and at ~= ROOT do
    if at == ino then fail('EINVAL') end
    at = call('HGET', p .. 'i:' .. at, 'parent')
  end
end

local function adopt(p, inode, from, to)
  if from.ino == to.ino then return end
  from.nlink = from.nlink - 1
  to.nlink = to.nlink + 1
  call('HSET', p .. 'i:' .. inode.ino, 'parent', to.ino)
end

local function exchange(c, from, name, to, new_name, inode, other, now)
  local p = c.p
  if not other then fail('ENOENT') end
  if is_dir(other.mode) then assert_outside(p, other.ino, from.ino) end
  add_name(p, to.ino, new_name, inode)
  add_name(p, from.ino, name, other)
  if is_dir(inode.mode) then adopt(p, inode, from, to) end
  if is_dir(other.mode) then adopt(p, other, to, from) end
  inode.ctime, other.ctime = now, now
  store(p, inode)
  if other.ino ~= inode.ino then store(p, other) end
  tell(c, 'a ' .. other.ino)
  return false
end

local function replaceable(p, inode, victim)
  if is_dir(inode.mode) and not is_dir(victim.mode) then fail('ENOTDIR') end
  if not is_dir(inode.mode) and is_dir(victim.mode) then fail('EISDIR') end
  if is_dir(victim.mode) and call('EXISTS', p .. 'd:' .. victim.ino) == 1 then fail('ENOTEMPTY') end
end

-- The victim counts against its directory, but is stored by `unlinked`.
local function move(c, from, name, to, new_name, inode, victim, whiteout, now)
  local p = c.p
  if victim then replaceable(p, inode, victim) end
  if whiteout then
    whiteout.now = now
    local mask = make(c, from, whiteout)
    store(p, mask)
    add_name(p, from.ino, name, mask)
  else
    call('HDEL', p .. 'd:' .. from.ino, name)
  end
  add_name(p, to.ino, new_name, inode)
  if is_dir(inode.mode) then adopt(p, inode, from, to) end
  if victim and is_dir(victim.mode) then to.nlink = to.nlink - 1 end
  inode.ctime = now
  store(p, inode)
  return victim and unlinked(c, victim, now)
end

-- operation, session, slot, number, parent, name, new parent, new name, flags, now, uid, gid
-- Answers the inode, what was replaced with whether that is gone, and both directories.
function frees.rename(c, args)
  local p, name, new_name, flags, now = c.p, args[6], args[8], tonumber(args[9]), args[10]
  local from = directory(p, args[5])
  local to = args[7] == args[5] and from or directory(p, args[7])
  local ino = find(p, from.ino, name)
  if not ino then fail('ENOENT') end
  if to.nlink == 0 then fail('ENOENT') end
  local inode = needed(p, ino)
  local other_ino = find(p, to.ino, new_name)
  local other = other_ino and needed(p, other_ino)
  if is_dir(inode.mode) then assert_outside(p, ino, to.ino) end
  local gone, victim
  if flags == 2 then
    if other_ino == ino then other = inode end
    exchange(c, from, name, to, new_name, inode, other, now)
  else
    if other and band(flags, 1) ~= 0 then fail('EEXIST') end
    -- Two names of one file: nothing happens (rename(2)).
    if other_ino == ino then return { 'ok', packed(inode), false, '0', packed(from), packed(to) } end
    victim = other
    local whiteout = band(flags, 4) ~= 0
      and { mode = S_IFCHR, uid = args[11], gid = args[12], groups = '', umask = 0, rdev = '0' }
    gone = move(c, from, name, to, new_name, inode, victim, whiteout, now)
  end
  from.mtime, from.ctime, to.mtime, to.ctime = now, now, now, now
  store(p, from)
  if to ~= from then store(p, to) end
  tell(c, 'n ' .. from.ino .. ' ' .. name)
  tell(c, 'n ' .. to.ino .. ' ' .. new_name)
  tell(c, 'a ' .. inode.ino)
  return { 'ok', packed(inode), victim and packed(victim) or false, gone and '1' or '0', packed(from), packed(to) }
end
