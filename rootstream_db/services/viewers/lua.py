"""The Lua scripts of presence and counting. Each is atomic, so none can be half done.

Shapes they share:

* ``visits`` of a stream: viewer → five doubles ``started last credited watched sent``, then the
  user's id as text. Times are milliseconds. ``credited`` is up to when the watch time was counted,
  or 0 when the player reports it. Packed, because reading and writing it is most of the work.
* ``ended``: ``stream started ended watched sent user viewer``, as text, the viewer last because it
  may contain anything.
* ``delta``: stream → seven doubles: heartbeats, views, watch seconds, bytes (two: units of 2^32 and
  the rest, because one is exact to 2^53 only), the highest number of viewers, and when that was.
  And ``id``, given by whoever writes the first increment, which stays the same through the flush:
  PostgreSQL knows by it what it has been told.
"""

from __future__ import annotations

from typing import Final

_SHARED: Final = """
local function whole(number) return string.format('%.0f', number) end
local function ended_line(stream, viewer, started, last, watched, sent, user)
  return table.concat({stream, whole(started), whole(last), whole(watched), whole(sent), user,
    viewer}, ' ')
end
local function add(delta, stream, heartbeats, views, watch, bytes, present, now)
  local h, v, w, units, rest, peak, at = heartbeats, views, watch, 0, bytes, present, now
  local held = redis.call('HGET', delta, stream)
  if held then
    h, v, w, units, rest, peak, at = struct.unpack('>ddddddd', held)
    h, v, w, rest = h + heartbeats, v + views, w + watch, rest + bytes
    if present > peak then peak, at = present, now end
  end
  if rest >= 4294967296 then
    units = units + math.floor(rest / 4294967296)
    rest = rest % 4294967296
  end
  redis.call('HSET', delta, stream, struct.pack('>ddddddd', h, v, w, units, rest, peak, at))
end
local function show(board, stream, present)
  if present > 0 then redis.call('ZADD', board, present, stream)
  else redis.call('ZREM', board, stream) end
end
"""

HEARTBEATS: Final = (
    _SHARED
    + """
local call, pack, unpack_visit = redis.call, struct.pack, struct.unpack
local delta, due, board, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, ttl = tonumber(ARGV[2]), tonumber(ARGV[3])
call('HSETNX', delta, 'id', ARGV[1])
for index, group in ipairs(cjson.decode(ARGV[4])) do
  local stream, beats = group[1], group[2]
  local seen, visits = KEYS[3 + 2 * index], KEYS[4 + 2 * index]
  local views, watch, bytes = 0, 0, 0
  for _, beat in ipairs(beats) do
    local viewer, reported, more = beat[1], beat[3], beat[4]
    local started, last, credited, watched, sent, user = now, now, now, 0, 0, ''
    local visit = call('HGET', visits, viewer)
    if visit then
      started, last, credited, watched, sent = unpack_visit('>ddddd', visit)
      user = string.sub(visit, 41)
      if now - last > ttl then
        call('RPUSH', ended, ended_line(stream, viewer, started, last, watched, sent, user))
        started, last, credited, watched, sent, user = now, now, now, 0, 0, ''
        visit = false
      end
    end
    if not visit then views = views + 1 end
    local gain = reported
    if reported >= 0 then
      credited = 0
    else
      if credited == 0 then credited = last end
      gain = math.max(0, math.floor((now - credited) / 1000))
      credited = credited + gain * 1000
    end
    if now > last then last = now end
    watch, bytes = watch + gain, bytes + more
    if beat[2] ~= '' then user = beat[2] end
    call('HSET', visits, viewer,
      pack('>ddddd', started, last, credited, watched + gain, sent + more) .. user)
    call('ZADD', seen, last, viewer)
  end
  local present = 0
  if views > 0 then
    present = call('ZCOUNT', seen, now - ttl, '+inf')
    -- With others present the stream is in the list already.
    if present <= views then call('ZADD', due, 'NX', now + ttl, stream) end
    show(board, stream, present)
  end
  add(delta, stream, #beats, views, watch, bytes, present, now)
end
return 1
"""
)

LEAVE: Final = (
    _SHARED
    + """
local delta, ended, board, seen, visits = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, ttl, stream, viewer = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local visit = redis.call('HGET', visits, viewer)
if not visit then return 0 end
redis.call('HSETNX', delta, 'id', ARGV[1])
local started, last, credited, watched, sent = struct.unpack('>ddddd', visit)
local user = string.sub(visit, 41)
if now > last and now - last <= ttl then
  last = now
  if credited > 0 then
    local gain = math.max(0, math.floor((now - credited) / 1000))
    watched = watched + gain
    add(delta, stream, 0, 0, gain, 0, 0, now)
  end
end
redis.call('RPUSH', ended, ended_line(stream, viewer, started, last, watched, sent, user))
redis.call('HDEL', visits, viewer)
redis.call('ZREM', seen, viewer)
show(board, stream, redis.call('ZCOUNT', seen, now - ttl, '+inf'))
return 1
"""
)

SWEEP: Final = (
    _SHARED
    + """
local delta, ended, board, due, seen, visits =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, ttl, stream, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local silent = redis.call('ZRANGEBYSCORE', seen, '-inf', '(' .. whole(now - ttl), 'LIMIT', 0, limit)
for _, viewer in ipairs(silent) do
  local visit = redis.call('HGET', visits, viewer)
  if visit then
    local started, last, _, watched, sent = struct.unpack('>ddddd', visit)
    local user = string.sub(visit, 41)
    redis.call('RPUSH', ended, ended_line(stream, viewer, started, last, watched, sent, user))
    redis.call('HDEL', visits, viewer)
  end
  redis.call('ZREM', seen, viewer)
end
if #silent > 0 then redis.call('HSETNX', delta, 'id', ARGV[1]) end
local oldest = redis.call('ZRANGE', seen, 0, 0, 'WITHSCORES')
if oldest[2] then redis.call('ZADD', due, tonumber(oldest[2]) + ttl + 1, stream)
else redis.call('ZREM', due, stream) end
show(board, stream, redis.call('ZCARD', seen))
return #silent
"""
)

TAKE: Final = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[3])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[4]) end
redis.call('SADD', KEYS[5], ARGV[2])
return 1
"""
