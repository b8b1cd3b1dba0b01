-- wrk asks /get-online-features for FEATURES features of ENTITIES random entities; ours and Feast's server read the same body.
local features, entities = tonumber(os.getenv("FEATURES")), tonumber(os.getenv("ENTITIES"))
local known = tonumber(os.getenv("KNOWN"))
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
