-- wrk's side of load.py: takes prepared requests in turn and writes run and counter where their ids are.
-- Costs one copy of the request and 8 bytes an event. The last line is the result as JSON, for load.py.

local ffi = require("ffi")

local templates, count, at, counter = {}, 0, 0, 0
local digits = "0123456789abcdef"
local nibble = ffi.new("uint8_t[16]")
ffi.copy(nibble, digits, 16)
local hex = ffi.new("uint8_t[8]")
local band, rshift = bit.band, bit.rshift

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local data = file:read("*a")
   file:close()
   local mark = args[2]
   local base = ffi.cast("const uint8_t *", data)
   local function u32(offset)
      return base[offset] + base[offset + 1] * 256 + base[offset + 2] * 65536 + base[offset + 3] * 16777216
   end
   count = u32(0)
   local position = 4
   for index = 1, count do
      local length, ids = u32(position), u32(position + 4)
      local offsets = ffi.new("uint32_t[?]", ids + 1)
      local bytes = ffi.new("uint8_t[?]", length)
      for id = 0, ids - 1 do offsets[id] = u32(position + 8 + 4 * id) end
      position = position + 8 + 4 * ids
      ffi.copy(bytes, base + position, length)
      for id = 0, ids - 1 do ffi.copy(bytes + offsets[id], mark, 4) end
      templates[index] = { bytes = bytes, length = length, offsets = offsets, ids = ids }
      position = position + length
   end
end

function request()
   at = at + 1
   if at > count then at = 1 end
   counter = counter + 1
   local value = counter
   for digit = 7, 0, -1 do
      hex[digit] = nibble[band(value, 15)]
      value = rshift(value, 4)
   end
   local template = templates[at]
   local bytes, offsets = template.bytes, template.offsets
   for id = 0, template.ids - 1 do ffi.copy(bytes + offsets[id] + 4, hex, 8) end
   return ffi.string(bytes, template.length)
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"duration_us":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,' ..
      '"p50":%.1f,"p99":%.1f,"max":%.1f}\n',
      summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
      latency:percentile(50), latency:percentile(99), latency.max))
end
