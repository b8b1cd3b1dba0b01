-- wrk asks /get-online-features for FEATURES features of ENTITIES random entities; ours and Feast's server read the same body.
local features, entities = tonumber(os.getenv("FEATURES")), tonumber(os.getenv("ENTITIES"))
local known = tonumber(os.getenv("KNOWN"))
local rate = tonumber(os.getenv("RATE") or "0")
local wanted = {}
for at = 0, features - 1 do
  wanted[#wanted + 1] = string.format('"fv%d:x%d"', features, at)
end
local head = '{"features":[' .. table.concat(wanted, ",") .. '],"entities":{"entity_id":['
math.randomseed(42)

request = function()
  local ids = {}
  for at = 1, entities do
    ids[at] = math.random(0, known - 1)
  end
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, head .. table.concat(ids, ",") .. "]}}")
end

-- With RATE, requests leave at fixed moments, so many a second over all connections of the one thread: each takes the next moment,
-- whether the answers before have come or not. wrk waits by whole milliseconds, so a request leaves up to one late. One that
-- finds no free connection leaves late too, and wrk's latency does not hold that: `late` counts those that were over 5 ms late.
if rate > 0 then
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int clock, moment *now);")
  local now = ffi.new("moment")
  local due
  late = 0

  delay = function()
    ffi.C.clock_gettime(1, now)
    local at = tonumber(now.s) * 1000 + tonumber(now.ns) / 1e6
    due = (due or at) + 1000 / rate
    if at - due > 5 then
      late = late + 1
    end
    return math.max(0, math.floor(due - at))
  end
end

local threads = {}
setup = function(thread)
  threads[#threads + 1] = thread
end

-- How many requests took how long, so that several runs can be put together.
done = function(summary, latency)
  for at = 1, #latency do
    local micros, count = latency(at)
    print(string.format("took %d us: %d", micros, count))
  end
  local late = 0
  for _, thread in ipairs(threads) do
    late = late + (tonumber(thread:get("late")) or 0)
  end
  print(string.format("late: %d", late))
end
