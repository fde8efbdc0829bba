-- What wrk asks a service: texts or pictures, no two alike, or rows' ids. Answers of each status are counted, some are
-- kept. The kinds: `text` and `like` search, `embed` and `picture` ask for vectors, `upload` adds pictures.
-- wrk … -s load.lua URL -- KIND FOLDER LINES SAMPLE SEED FIELDS

local words = {
  "a", "the", "two", "three", "small", "large", "old", "young", "red", "green", "blue", "black", "wooden", "dog", "cat",
  "bird", "horse", "child", "woman", "man", "boat", "train", "house", "tree", "flower", "street", "river", "mountain",
  "beach", "snow", "rain", "night", "sky", "water", "grass", "table", "chair", "running", "sitting", "sleeping",
  "playing", "walking", "standing", "near", "under", "over", "behind", "with", "on",
}
local threads = {}
local paths = { text = "/v1/search", like = "/v1/search", embed = "/v1/embeddings", picture = "/v1/embeddings",
  upload = "/v1/images" }
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(args)
  kind, folder, every, fields = args[1], args[2], tonumber(args[4]), args[6] or ""
  math.randomseed(tonumber(args[5]) + number)
  lines, asked, seen, statuses = {}, 0, 0, {}
  if kind == "like" then
    for line in io.lines(args[3]) do lines[#lines + 1] = line end
  elseif kind == "picture" or kind == "upload" then -- each line names a file, in base64 for `picture`
    for line in io.lines(args[3]) do
      local file = io.open(line, "rb")
      lines[#lines + 1] = file:read("*a")
      file:close()
    end
  end
  answers = io.open(folder .. "/answers-" .. number .. ".jsonl", "w")
  answers:setvbuf("line")
  wrk.method, wrk.path = "POST", paths[kind]
  wrk.headers["Content-Type"] = kind == "upload" and "multipart/form-data; boundary=part" or "application/json"
end

-- Sixteen letters: behind the end of a JPEG, in base64 or not, they change its content and not the picture.
local function unlike()
  local letters = {}
  for i = 1, 16 do
    local at = math.random(#alphabet)
    letters[i] = alphabet:sub(at, at)
  end
  return table.concat(letters)
end

function request()
  asked = asked + 1
  if kind == "like" then
    return wrk.format(nil, nil, nil, '{"like":["' .. lines[math.random(#lines)] .. '"],"k":10}')
  elseif kind == "picture" then
    local data = lines[math.random(#lines)] .. unlike()
    return wrk.format(nil, nil, nil, '{' .. fields .. '"input":["data:image/jpeg;base64,' .. data .. '"]}')
  elseif kind == "upload" then
    local head = '--part\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    return wrk.format(nil, nil, nil, head .. lines[math.random(#lines)] .. unlike() .. '\r\n--part--\r\n')
  end
  local chosen = {}
  for i = 1, math.random(5, 13) do chosen[i] = words[math.random(#words)] end
  chosen[#chosen + 1] = number .. "x" .. asked -- no two texts are the same
  local text = '"' .. table.concat(chosen, " ") .. '"'
  if kind == "embed" then return wrk.format(nil, nil, nil, '{' .. fields .. '"input":[' .. text .. ']}') end
  return wrk.format(nil, nil, nil, '{"text":' .. text .. ',"k":10}')
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
