-- Takes the cost of one request from all of its limits, or from none. Atomic: the store runs one script at a time.
--
-- KEYS: the quota of each limit. ARGV: five numbers for each: limit, window in microseconds, burst (0: a sliding
-- window), cost, and 1 where the limit refuses (0: it only watches).
-- Answer: three integers for each: 1 where it has room, what is left, and microseconds: until some of what was taken
-- comes back, or until the cost can be had.
--
-- The arithmetic is that of window.rs and even.rs. All times are the store's own.
local ENTRIES_MAX = 16
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- `lasts`: microseconds.
local function write(key, text, lasts)
  redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil(lasts / 1000) + 1))
end

local function join(log)
  local parts = {}
  for i, entry in ipairs(log) do parts[i] = string.format('%.0f:%.0f', entry[1], entry[2]) end
  return table.concat(parts, ' ')
end

-- A store whose clock went back (a step, a replica that took over) may not hold quota for longer than if it had been taken
-- now. What lies too far ahead is drawn near, and that is written at once, whether the request passes or not: drawn near
-- anew at every question it would never come nearer.

local function window(key, limit, span, cost)
  local granule = 1
  if limit > ENTRIES_MAX then granule = math.ceil(span / (ENTRIES_MAX - 1)) end
  local log, used, back = {}, 0, false
  for ends, n in string.gmatch(redis.call('GET', key) or '', '(%d+):(%d+)') do
    ends = tonumber(ends)
    if ends > now + span then ends, back = now + span, true end
    if ends > now then
      log[#log + 1] = {ends, tonumber(n)}
      used = used + tonumber(n)
    end
  end
  if back then write(key, join(log), span) end
  local missing = used + cost - limit
  if missing > 0 then
    local freed, wait = 0, span
    for _, entry in ipairs(log) do
      freed = freed + entry[2]
      if freed >= missing then
        wait = entry[1] - now
        break
      end
    end
    return 0, 0, wait
  end
  local ends, last = now + span, log[#log]
  if last and math.floor(last[1] / granule) == math.floor(ends / granule) then
    last[1], last[2] = math.max(last[1], ends), last[2] + cost
  else
    log[#log + 1] = {ends, cost}
  end
  return 1, limit - used - cost, log[1][1] - now, join(log), log[#log][1] - now
end

-- What is used up of the burst, and when that was so: it drains by `limit` a window.
local function even(key, limit, span, burst, cost)
  local used, at = string.match(redis.call('GET', key) or '', '^(%S+) (%d+)$')
  used, at = tonumber(used) or 0, tonumber(at) or now
  local function text() return string.format('%.17g %.0f', used, now) end
  if at > now then
    write(key, text(), used * span / limit)
  else
    used = math.max(0, used - (now - at) * limit / span)
  end
  -- A billionth for what floating point numbers lose.
  local missing = used + cost - burst
  if missing > 1e-9 then return 0, 0, math.ceil(missing * span / limit) end
  used = used + cost
  local left = math.max(0, math.floor(burst - used + 1e-9))
  return 1, left, math.ceil(span / limit), text(), used * span / limit
end

local answer, changes, refused = {}, {}, false
for i, key in ipairs(KEYS) do
  local numbers = {}
  for j = 1, 5 do numbers[j] = tonumber(ARGV[(i - 1) * 5 + j]) end
  local limit, span, burst, cost, refuses = unpack(numbers)
  local room, left, wait, new, lasts
  if burst > 0 then
    room, left, wait, new, lasts = even(key, limit, span, burst, cost)
  else
    room, left, wait, new, lasts = window(key, limit, span, cost)
  end
  if room == 1 then
    changes[#changes + 1] = {key, new, lasts}
  elseif refuses == 1 then
    refused = true
  end
  for _, number in ipairs({room, left, wait}) do answer[#answer + 1] = number end
end
if not refused then
  for _, change in ipairs(changes) do write(unpack(change)) end
end
return answer
