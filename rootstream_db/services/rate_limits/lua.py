"""The rate limiter's scripts: ``gcra`` in Lua, one round trip and nothing in between.

A subject is one hash: ``u`` busy until, ``r`` refusals, ``s`` since when, ``n`` blocks, ``b``
blocked until. Times are microseconds, which a double holds exactly until the year 2255. Arguments:
now, cost, then the rule: interval, tolerance, after, within, base, longest, forget.
"""

from __future__ import annotations

from typing import Final

SLACK_MS: Final = 10_000
"""How long a state is kept beyond its use, for callers whose clock is behind."""

_SHARED: Final = """
local key, call = KEYS[1], redis.call
local now, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval, tolerance = tonumber(ARGV[3]), tonumber(ARGV[4])
local after, within = tonumber(ARGV[5]), tonumber(ARGV[6])
local base, longest, forget = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local held = call('HMGET', key, 'u', 'r', 's', 'n', 'b')
local busy, refusals, since = tonumber(held[1] or 0), tonumber(held[2] or 0), tonumber(held[3] or 0)
local blocks, blocked = tonumber(held[4] or 0), tonumber(held[5] or 0)
local function whole(number) return string.format('%.0f', number) end
local function keep()
  local ends = busy
  if refusals > 0 then ends = math.max(ends, since + within) end
  if blocked > 0 then ends = math.max(ends, blocked + forget) end
  call('HSET', key, 'u', whole(busy), 'r', refusals, 's', whole(since), 'n', blocks,
    'b', whole(blocked))
  call('PEXPIRE', key, whole(math.ceil(math.max(ends - now, 0) / 1000) + SLACK))
end
local function block()
  if now >= blocked + forget then blocks = 0 end
  blocked = math.max(blocked, now + math.min(base * 2 ^ math.min(blocks, 40), longest))
  blocks, refusals, since = blocks + 1, 0, 0
end
""".replace("SLACK", str(SLACK_MS))

DECIDE: Final = (
    _SHARED
    + """
local ahead = math.min(math.max(busy - now, 0), tolerance)
if blocked > now then
  return {0, 1, 0, 0, blocked - now, math.max(blocked - now, ahead)}
end
local after_call = ahead + cost * interval
if after_call <= tolerance then
  busy = now + after_call
  keep()
  return {1, 0, 0, math.floor((tolerance - after_call) / interval), 0, after_call}
end
local left, missing = math.floor((tolerance - ahead) / interval), after_call - tolerance
if after == 0 then return {0, 0, 0, left, missing, ahead} end
if refusals == 0 or now >= since + within then refusals, since = 0, now end
refusals = refusals + 1
if refusals < after then
  keep()
  return {0, 0, 0, left, missing, ahead}
end
block()
keep()
return {0, 1, 1, 0, blocked - now, math.max(blocked - now, ahead)}
"""
)

BLOCK: Final = (
    _SHARED
    + """
block()
keep()
return blocked - now
"""
)

GIVE_BACK: Final = (
    _SHARED
    + """
if busy > now then
  busy = math.max(busy - cost * interval, now)
  keep()
end
return 1
"""
)
