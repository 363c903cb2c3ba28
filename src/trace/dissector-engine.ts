/**
 * The part of the Wireshark dissector that is the same whatever the table says. It follows src/protocol/message.ts and connection.ts
 * step by step. Lua 5.1 to 5.4: no integer division, no bit operators.
 */
export const DISSECTOR_ENGINE = `
local malformed = ProtoExpert.new("fuse.malformed", "Not as the protocol wants it", expert.group.MALFORMED, expert.severity.ERROR)
local refused = ProtoExpert.new("fuse.refused", "Refused by the kernel", expert.group.RESPONSE_CODE, expert.severity.NOTE)
local unknown = ProtoExpert.new("fuse.unknown", "Not known to the table", expert.group.UNDECODED, expert.severity.WARN)

own("pseudo.version", ProtoField.uint8, "Version", base.DEC)
own("pseudo.direction", ProtoField.uint8, "Direction", base.DEC, { "kernel to daemon", "daemon to kernel", "ioctl", "struct" })
own("pseudo.flags", ProtoField.uint16, "Flags", base.HEX)
own("pseudo.errno", ProtoField.uint32, "Refused with", base.DEC, ERRNO)
own("pseudo.channel", ProtoField.uint32, "Channel", base.DEC)
own("pseudo.command", ProtoField.uint32, "Request code", base.HEX)
own("pseudo.result", ProtoField.int32, "Returned", base.DEC)
own("pseudo", ProtoField.none, "What the recorder knew")
own("name", ProtoField.string, "Name", base.UNICODE)
own("path", ProtoField.string, "Path", base.UNICODE)
own("target", ProtoField.string, "Target", base.UNICODE)
own("xattr_name", ProtoField.string, "Attribute", base.UNICODE)
own("data", ProtoField.bytes, "Data")
own("undecoded", ProtoField.bytes, "Undecoded")
own("padding", ProtoField.bytes, "Padding that is not zero")
own("record", ProtoField.none, "Directory record")
own("word", ProtoField.uint32, "Argument", base.DEC)
own("nodeid", ProtoField.uint64, "Node", base.DEC)
own("secctx.name", ProtoField.string, "Name", base.UNICODE)
own("secctx.value", ProtoField.bytes, "Value")
own("ext.data", ProtoField.bytes, "Data")
own("opcode_name", ProtoField.string, "Operation", base.UNICODE)
own("notification", ProtoField.string, "Notification", base.UNICODE)
own("ioctl", ProtoField.string, "Ioctl", base.UNICODE)
own("request_in", ProtoField.framenum, "Request in", base.NONE, frametype.REQUEST)
own("response_in", ProtoField.framenum, "Answer in", base.NONE, frametype.RESPONSE)
own("time", ProtoField.relative_time, "Answered after")

fuse.fields = fields
fuse.experts = { malformed, refused, unknown }

-- For traces that begin after INIT.
fuse.prefs.minor = Pref.uint("Minor without INIT", MINOR, "The protocol's minor, where the trace does not hold INIT")
fuse.prefs.setxattr_ext = Pref.bool("Long SETXATTR without INIT", false, "FUSE_SETXATTR_EXT, where the trace does not hold INIT")

-- What is remembered between frames. Each frame's own facts are kept, so that it can be dissected again in any order.
local frames, pending, agreed, nodes, children

function fuse.init()
  frames, pending, nodes, children = {}, {}, {}, {}
  agreed = { minor = fuse.prefs.minor, setxattr_ext = fuse.prefs.setxattr_ext, security = false }
end

local function has(value, bit)
  return math.floor(value / 2 ^ bit) % 2 == 1
end

local function elapsed(seconds)
  local whole = math.floor(seconds)
  return NSTime.new(whole, math.min(999999999, math.floor((seconds - whole) * 1e9 + 0.5)))
end

local function up8(value)
  return value + (8 - value % 8) % 8
end

-- A place in one message. The first failure sticks: afterwards every read gives nothing.
local function cursor(tvb, tree)
  return { tvb = tvb, tree = tree, at = 0, stop = tvb:len(), failed = nil }
end

local function left(c)
  if c.failed then return 0 end
  return c.stop - c.at
end

local function fail(c, text)
  if not c.failed then c.failed = text end
end

local function room(c, bytes)
  if c.failed then return false end
  if c.stop - c.at >= bytes then return true end
  fail(c, "The message ends too early")
  return false
end

local function u32(c, at)
  return c.tvb(at, 4):le_uint()
end

local function pad(c, tree, bytes)
  if not room(c, bytes) then return end
  for at = c.at, c.at + bytes - 1 do
    if c.tvb(at, 1):uint() ~= 0 then
      tree:add(P["padding"], c.tvb(c.at, bytes))
      break
    end
  end
  c.at = c.at + bytes
end

local put_fields

local function put_scalar(c, tree, field, range, value)
  local item = tree:add_le(P[field.key], range)
  if field.bytes == 8 then value[field.name] = tostring(range:le_uint64())
  else value[field.name] = range:le_uint() end
  if field.errno then
    local number = range:le_int()
    value[field.name] = number
    if number < 0 and ERRNO[-number] then item:append_text(" (" .. ERRNO[-number] .. ")") end
  end
  for _, bit in ipairs(field.bits or {}) do item:add_le(P[bit], range) end
end

put_fields = function(c, tree, struct, size, value)
  for _, field in ipairs(struct.fields) do
    if field.role ~= "flexible" and field.offset < size then
      local present = math.min(field.bytes, size - field.offset)
      if field.role == "padding" then
        pad(c, tree, present)
      elseif field.role == "struct" then
        local range = c.tvb(c.at, present)
        value[field.name] = {}
        put_fields(c, tree:add(P[field.key], range), S[field.type], present, value[field.name])
      elseif field.role == "area" then
        tree:add(P[field.key], c.tvb(c.at, present))
        c.at = c.at + present
      elseif present < field.bytes then
        fail(c, struct.name .. "." .. field.name .. " is cut off")
        return
      else
        put_scalar(c, tree, field, c.tvb(c.at, present), value)
        c.at = c.at + present
      end
    end
  end
end

local function put_struct(c, tree, name, size)
  local value = {}
  if room(c, size) then put_fields(c, tree:add(P[S[name].key], c.tvb(c.at, size)), S[name], size, value) end
  return value
end

local function wire_bytes(struct, rules)
  local growth = struct.growth
  if growth == nil or growth.by == "kernel" then return struct.bytes end
  if growth.by == "length" then return growth[1][2] end
  if growth.by == "flag" then return rules.setxattr_ext and struct.bytes or growth[1][2] end
  local bytes = growth[1][2]
  for _, step in ipairs(growth) do if rules.minor >= step[1] then bytes = step[2] end end
  return bytes
end

local function put_part(c, tree, name, rules, alone)
  local struct = S[name]
  local growth = struct.growth
  local bytes = wire_bytes(struct, rules)
  if growth and growth.by == "length" then bytes = math.min(math.max(bytes, left(c)), struct.bytes) end
  if growth and growth.by == "kernel" and alone and rules.minor < growth[#growth][1] then
    for _, step in ipairs(growth) do if step[2] <= left(c) then bytes = step[2] end end
  end
  return put_struct(c, tree, name, bytes)
end

local function put_text(tree, key, range)
  return tree:add_packet_field(P[key], range, ENC_UTF_8)
end

-- A name and its NUL. Gives the name.
local function put_name(c, tree, key)
  if c.failed then return "" end
  for at = c.at, c.stop - 1 do
    if c.tvb(at, 1):uint() == 0 then
      local length = at - c.at
      local name = ""
      if length > 0 then
        name = c.tvb(c.at, length):string(ENC_UTF_8)
        put_text(tree, key, c.tvb(c.at, length))
      else
        tree:add(P[key], c.tvb(c.at, 1), "")
      end
      c.at = at + 1
      return name
    end
  end
  fail(c, "A name has no NUL before the message ends")
  return ""
end

local function put_data(c, tree, key, bytes)
  if not room(c, bytes) then return end
  if bytes > 0 then tree:add(P[key], c.tvb(c.at, bytes)) end
  c.at = c.at + bytes
end

local function put_secctx(c, tree, count)
  for _ = 1, count do
    local at = c.at
    local value = put_struct(c, tree, "fuse_secctx", 8)
    put_name(c, tree, "secctx.name")
    if c.failed then return end
    put_data(c, tree, "secctx.value", value.size)
    pad(c, tree, math.min(left(c), at + up8(c.at - at) - c.at))
  end
end

local function put_extensions(c, tree)
  local stop = c.stop
  while left(c) > 0 do
    local at = c.at
    if not room(c, 8) then return end
    local size, kind = u32(c, at), u32(c, at + 4)
    if size < 8 or size > stop - at then return fail(c, "A record of the extension area has a wrong size") end
    c.stop = at + size
    if kind <= SECCTX_MAX then
      put_struct(c, tree, "fuse_secctx_header", 8)
      put_secctx(c, tree, kind)
    else
      put_struct(c, tree, "fuse_ext_header", 8)
      if kind == EXT_GROUPS then
        local groups = put_struct(c, tree, "fuse_supp_groups", 4)
        for _ = 1, groups.nr_groups or 0 do
          if not room(c, 4) then return end
          tree:add_le(P["supp_groups.groups"], c.tvb(c.at, 4))
          c.at = c.at + 4
        end
      else
        put_data(c, tree, "ext.data", left(c))
      end
    end
    if c.failed then return end
    c.stop = math.min(stop, at + up8(size))
    pad(c, tree, left(c))
    c.stop = stop
  end
end

local function put_directory(c, tree, plus)
  local entry_bytes = plus and S["fuse_entry_out"].bytes or 0
  local fixed = entry_bytes + S["fuse_dirent"].bytes
  local found = {}
  while left(c) >= fixed do
    local name_bytes = u32(c, c.at + entry_bytes + 16)
    if name_bytes == 0 or name_bytes > 4095 then return fail(c, "A directory record has no name"), found end
    local total = up8(fixed + name_bytes)
    if total > left(c) then break end
    local stop = c.at + total
    local record = tree:add(P["record"], c.tvb(c.at, total))
    local entry = plus and put_struct(c, record, "fuse_entry_out", entry_bytes) or {}
    put_struct(c, record, "fuse_dirent", fixed - entry_bytes)
    local name = c.tvb(c.at, name_bytes):string(ENC_UTF_8)
    record:append_text(": " .. name)
    put_text(record, "dirent.name", c.tvb(c.at, name_bytes))
    c.at = c.at + name_bytes
    pad(c, record, stop - c.at)
    found[#found + 1] = { name = name, nodeid = entry.nodeid }
  end
  put_data(c, tree, "data", left(c))
  return nil, found
end

local function finish(c, tree, pseudo)
  if not c.failed and left(c) > 0 then fail(c, "Bytes are left over") end
  if not c.failed then return end
  local length = c.tvb:len()
  if c.at < length then tree:add(P["undecoded"], c.tvb(c.at, length - c.at)) end
  -- What the kernel refused may well be wrong.
  if pseudo.errno == 0 then tree:add_proto_expert_info(malformed, c.failed) end
end

-- --- names of nodes ----------------------------------------------------------------------------------------------------

local function path_of(nodeid)
  local parts = {}
  for _ = 1, 64 do
    if nodeid == "1" then return "/" .. table.concat(parts, "/") end
    local node = nodes[nodeid]
    if node == nil then return nil end
    table.insert(parts, 1, node.name)
    nodeid = node.parent
  end
  return nil
end

local function learn(parent, name, nodeid)
  if nodeid == nil or nodeid == "0" or name == nil or name == "." or name == ".." then return end
  nodes[nodeid] = { parent = parent, name = name }
  children[parent .. "/" .. name] = nodeid
end

local function renamed(request)
  local from, to = request.nodeid .. "/" .. request.names[1], request.newdir .. "/" .. request.names[2]
  local moved, other = children[from], children[to]
  children[from], children[to] = nil, nil
  if moved then learn(request.newdir, request.names[2], moved) end
  if other and request.exchange then learn(request.nodeid, request.names[1], other) end
end

local function learn_from_reply(request, value, entries)
  if COUNTS_LOOKUP[request.opcode] and value.nodeid and request.names[1] then
    learn(request.nodeid, request.names[1], value.nodeid)
  elseif request.newdir and request.names[2] then
    renamed(request)
  end
  for _, entry in ipairs(entries or {}) do learn(request.nodeid, entry.name, entry.nodeid) end
end

-- --- messages ------------------------------------------------------------------------------------------------------------

local function rules_for(row, at)
  return { minor = math.max(row.since, at.minor), setxattr_ext = at.setxattr_ext, security = at.security }
end

local function put_request_body(c, tree, row, rules)
  local value, names = {}, {}
  local shape = row.request
  if shape.struct then value = put_part(c, tree, shape.struct, rules, shape.names == 0 and not shape.tail) end
  local counted = shape.counted and value[shape.counted] or 0
  for index = 1, shape.names do names[index] = put_name(c, tree, "name") end
  if c.failed then return value, names end
  if shape.tail == "data" then
    if counted ~= left(c) then fail(c, "The count of bytes is wrong") end
    put_data(c, tree, "data", counted)
  elseif shape.tail == "records" then
    local bytes = S[shape.record].bytes
    if counted * bytes ~= left(c) then fail(c, "The count of records is wrong") end
    while left(c) >= bytes do put_struct(c, tree, shape.record, bytes) end
  end
  return value, names
end

local function dissect_request(c, pinfo, tree, pseudo, facts)
  local header = put_struct(c, tree, "fuse_in_header", S["fuse_in_header"].bytes)
  if c.failed then return finish(c, tree, pseudo), "malformed" end
  local row = OPCODES[header.opcode]
  if header.len ~= c.tvb:len() then fail(c, "The header says another length") end
  if row == nil then
    tree:add_proto_expert_info(unknown, "No such opcode")
    put_data(c, tree, "undecoded", left(c))
    return nil, "opcode " .. header.opcode
  end
  tree:add(P["opcode_name"], row.name):set_generated()
  facts.agreed = facts.agreed or agreed
  local rules = rules_for(row, facts.agreed)
  local extensions = header.total_extlen * 8
  if extensions > left(c) then fail(c, "The header announces too many extensions") else c.stop = c.stop - extensions end
  local value, names = put_request_body(c, tree, row, rules)
  c.stop = c.tvb:len()
  if row.request.extensions and (extensions > 0 or (rules.security and left(c) > 0)) then put_extensions(c, tree) end
  finish(c, tree, pseudo)
  if not facts.seen then
    facts.seen = true
    facts.path = path_of(header.nodeid)
    local flags = tonumber(value.flags) or 0
    local request = {
      frame = pinfo.number, time = pinfo.rel_ts, opcode = header.opcode, nodeid = header.nodeid, names = names,
      size = row.reply.limited and value[row.reply.limited], newdir = value.newdir,
      exchange = row.name == "RENAME2" and has(flags, 1),
    }
    -- The kernel lends the reply to IOCTL at least a page.
    if row.name == "IOCTL" and request.size then request.size = math.max(request.size, 65536) end
    if row.name == "INIT" then nodes, children = {}, {} end
    if row.answered or row.name == "INTERRUPT" then pending[header.unique] = request end
    facts.request = request
  end
  local text = row.name
  if facts.path then
    local path = names[1] and ((facts.path == "/" and "/" or facts.path .. "/") .. names[1]) or facts.path
    if row.name == "GETXATTR" or row.name == "SETXATTR" or row.name == "REMOVEXATTR" or row.name == "TMPFILE" then path = facts.path end
    put_path(tree, path)
    text = text .. " " .. path
  elseif names[1] then
    text = text .. " node " .. header.nodeid .. " " .. names[1]
  elseif header.nodeid ~= "0" then
    text = text .. " node " .. header.nodeid
  end
  facts.request.text = text
  if facts.request.response then tree:add(P["response_in"], facts.request.response):set_generated() end
  return nil, text
end

local function put_reply_tail(c, tree, row, request, value, rules)
  local shape = row.reply
  local retries = row.name == "IOCTL" and has(value.flags or 0, 2)
  if request.size and not retries and left(c) > request.size then
    return fail(c, "The reply has more bytes than were asked for")
  end
  if shape.tail ~= "data" then
    local _, entries = put_directory(c, tree, shape.tail == "direntplus")
    return entries
  end
  local iovec = S["fuse_ioctl_iovec"].bytes
  if retries and rules.minor >= 16 and left(c) == ((value.in_iovs or 0) + (value.out_iovs or 0)) * iovec then
    while left(c) >= iovec do put_struct(c, tree, "fuse_ioctl_iovec", iovec) end
  elseif row.name == "READLINK" and left(c) > 0 then
    put_text(tree, "target", c.tvb(c.at, left(c))):set_generated()
  elseif row.name == "LISTXATTR" then
    local start = c.at
    while left(c) > 0 and not c.failed do put_name(c, tree, "xattr_name") end
    c.failed, c.at = nil, start
  end
  put_data(c, tree, "data", left(c))
end

local function put_reply_body(c, tree, row, request, rules)
  local shape = row.reply
  if shape.when_zero and request.size == 0 then return put_part(c, tree, shape.when_zero, rules, true) end
  local value = {}
  for index, name in ipairs(shape.structs) do
    local one = put_part(c, tree, name, rules, #shape.structs == 1 and not shape.tail)
    if index == 1 then value = one end
  end
  if c.failed or not shape.tail then return value end
  return value, put_reply_tail(c, tree, row, request, value, rules)
end

local function agree(value, row)
  local flags, flags2 = value.flags or 0, value.flags2 or 0
  if row.name ~= "INIT" or value.minor < INIT_FLAGS_SINCE then flags, flags2 = 0, 0 end
  if not has(flags, INIT_EXT_BIT) then flags2 = 0 end
  agreed = { minor = value.minor, setxattr_ext = has(flags, SETXATTR_EXT_BIT), security = has(flags2, SECURITY_BIT) }
end

local function dissect_reply(c, pinfo, tree, pseudo, facts, header)
  if not facts.seen then
    facts.seen = true
    facts.request = pending[header.unique]
    facts.agreed = agreed
    facts.first = true
    if facts.request and header.len == c.tvb:len() then
      pending[header.unique] = nil
      facts.request.response = pinfo.number
    end
  else
    facts.first = false
  end
  local request = facts.request
  if request == nil then
    put_data(c, tree, "undecoded", left(c))
    tree:add_proto_expert_info(unknown, "No request waits for this answer")
    return "answer to an unknown request"
  end
  local row = OPCODES[request.opcode]
  tree:add(P["opcode_name"], row.name):set_generated()
  tree:add(P["request_in"], request.frame):set_generated()
  tree:add(P["time"], elapsed(pinfo.rel_ts - request.time)):set_generated()
  local text = request.text or row.name
  if header.error ~= 0 then
    finish(c, tree, pseudo)
    return text .. " = " .. (ERRNO[-header.error] or tostring(header.error))
  end
  local value, entries = put_reply_body(c, tree, row, request, rules_for(row, facts.agreed))
  finish(c, tree, pseudo)
  if facts.first and pseudo.errno == 0 and not c.failed then
    if row.name == "INIT" or row.name == "CUSE_INIT" then agree(value, row) else learn_from_reply(request, value, entries) end
  end
  if value.nodeid then return text .. " = node " .. value.nodeid end
  return text .. " = " .. (entries and #entries .. " entries" or "ok")
end

local function dissect_notification(c, tree, pseudo, header)
  local row = NOTIFICATIONS[header.error]
  if row == nil then
    put_data(c, tree, "undecoded", left(c))
    tree:add_proto_expert_info(unknown, "No such notification")
    return "notification " .. header.error
  end
  tree:add(P["notification"], row.name):set_generated()
  local value = row.struct and put_struct(c, tree, row.struct, S[row.struct].bytes) or {}
  local name = row.names == 1 and put_name(c, tree, "name")
  local counted = row.counted and value[row.counted] or 0
  if not c.failed and row.tail == "data" then
    if counted ~= left(c) then fail(c, "The count of bytes is wrong") end
    put_data(c, tree, "data", counted)
  elseif not c.failed and row.tail == "nodeids" then
    if counted * 8 ~= left(c) then fail(c, "The count of nodes is wrong") end
    while left(c) >= 8 do
      tree:add_le(P["nodeid"], c.tvb(c.at, 8))
      c.at = c.at + 8
    end
  end
  finish(c, tree, pseudo)
  return "NOTIFY " .. row.name .. (name and " " .. name or "")
end

local function dissect_out(c, pinfo, tree, pseudo, facts)
  local header = put_struct(c, tree, "fuse_out_header", S["fuse_out_header"].bytes)
  if c.failed then
    finish(c, tree, pseudo)
    return "malformed"
  end
  if header.len ~= c.tvb:len() then fail(c, "The header says another length") end
  if header.unique == "0" then return dissect_notification(c, tree, pseudo, header) end
  return dissect_reply(c, pinfo, tree, pseudo, facts, header)
end

local function dissect_ioctl(c, tree, pseudo)
  local row = IOCTLS[pseudo.command]
  if row == nil then
    put_data(c, tree, "undecoded", left(c))
    return "ioctl"
  end
  tree:add(P["ioctl"], row.name):set_generated()
  if row.argument == "u32" then
    if room(c, 4) then
      tree:add_le(P["word"], c.tvb(c.at, 4))
      c.at = c.at + 4
    end
  elseif row.argument then
    put_struct(c, tree, row.argument, S[row.argument].bytes)
  end
  finish(c, tree, pseudo)
  return row.name .. " = " .. pseudo.result
end

local function put_pseudo(tvb, tree)
  local item = tree:add(P["pseudo"], tvb(0, PSEUDO_BYTES))
  item:add_le(P["pseudo.version"], tvb(0, 1))
  item:add_le(P["pseudo.direction"], tvb(1, 1))
  item:add_le(P["pseudo.flags"], tvb(2, 2))
  item:add_le(P["pseudo.errno"], tvb(4, 4))
  item:add_le(P["pseudo.channel"], tvb(8, 4))
  item:add_le(P["pseudo.command"], tvb(12, 4))
  item:add_le(P["pseudo.result"], tvb(16, 4))
  return { direction = tvb(1, 1):uint(), errno = tvb(4, 4):le_uint(), command = tvb(12, 4):le_uint(), result = tvb(16, 4):le_int() }
end

put_path = function(tree, path)
  tree:add(P["path"], path):set_generated()
end

function fuse.dissector(tvb, pinfo, root)
  pinfo.cols.protocol:set("FUSE")
  if tvb:len() < PSEUDO_BYTES then return 0 end
  local tree = root:add(fuse, tvb())
  local pseudo = put_pseudo(tvb, tree)
  local length = tvb:len() - PSEUDO_BYTES
  frames[pinfo.number] = frames[pinfo.number] or {}
  local facts = frames[pinfo.number]
  pinfo.cols.src:set(pseudo.direction == 1 and "kernel" or "daemon")
  pinfo.cols.dst:set(pseudo.direction == 1 and "daemon" or "kernel")
  local text
  if length == 0 then
    local row = IOCTLS[pseudo.command]
    if row then tree:add(P["ioctl"], row.name):set_generated() end
    text = (row and row.name or "ioctl") .. " = " .. pseudo.result
  else
    local c = cursor(tvb(PSEUDO_BYTES, length):tvb(), tree)
    if pseudo.direction == 1 then
      local _, said = dissect_request(c, pinfo, tree, pseudo, facts)
      text = said
    elseif pseudo.direction == 2 then
      text = dissect_out(c, pinfo, tree, pseudo, facts)
    elseif pseudo.direction == 3 then
      text = dissect_ioctl(c, tree, pseudo)
    else
      local name = STRUCT_NAMES[pseudo.command]
      if name then put_struct(c, tree, name, S[name].bytes) end
      finish(c, tree, pseudo)
      text = name or "struct"
    end
  end
  if pseudo.errno ~= 0 then
    tree:add_proto_expert_info(refused, "The kernel refused this message")
    text = text .. " [refused: " .. (ERRNO[pseudo.errno] or pseudo.errno) .. "]"
  end
  pinfo.cols.info:set(text)
  tree:append_text(", " .. text)
  return tvb:len()
end
`;
