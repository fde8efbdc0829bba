-- What wrk asks a service: every text different, or rows' ids. Answers of each status are counted, some are kept.
-- wrk … -s load.lua URL -- KIND FOLDER IDS SAMPLE SEED

local words = {
  "a", "the", "two", "three", "small", "large", "old", "young", "red", "green", "blue", "black", "wooden", "dog", "cat",
  "bird", "horse", "child", "woman", "man", "boat", "train", "house", "tree", "flower", "street", "river", "mountain",
  "beach", "snow", "rain", "night", "sky", "water", "grass", "table", "chair", "running", "sitting", "sleeping",
  "playing", "walking", "standing", "near", "under", "over", "behind", "with", "on",
}
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(args)
  kind, folder, every = args[1], args[2], tonumber(args[4])
  math.randomseed(tonumber(args[5]) + number)
  ids, asked, seen, statuses = {}, 0, 0, {}
  if kind == "like" then
    for line in io.lines(args[3]) do ids[#ids + 1] = line end
  end
  answers = io.open(folder .. "/answers-" .. number .. ".jsonl", "w")
  answers:setvbuf("line")
  wrk.method, wrk.path = "POST", "/v1/search"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  asked = asked + 1
  if kind == "like" then
    return wrk.format(nil, nil, nil, '{"like":["' .. ids[math.random(#ids)] .. '"],"k":10}')
  end
  local chosen = {}
  for i = 1, math.random(5, 13) do chosen[i] = words[math.random(#words)] end
  chosen[#chosen + 1] = number .. "x" .. asked -- no two texts are the same
  return wrk.format(nil, nil, nil, '{"text":"' .. table.concat(chosen, " ") .. '","k":10}')
end

function response(status, headers, body)
  seen = seen + 1
  statuses[tostring(status)] = (statuses[tostring(status)] or 0) + 1
  if status == 200 and seen % every == 0 then answers:write(body, "\n") end
end

function done(summary, latency)
  local counts = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do counts[status] = (counts[status] or 0) + count end
  end
  local parts = {}
  for status, count in pairs(counts) do parts[#parts + 1] = string.format('"%s": %d', status, count) end
  local broken = summary.errors
  local file = io.open(threads[1]:get("folder") .. "/summary.json", "w")
  file:write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "broken": %d, "statuses": {%s}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    broken.connect + broken.read + broken.write + broken.timeout, table.concat(parts, ", ")
  ))
  file:close()
end
