"""Passwords that attackers try first (NIST SP 800-63B-4 3.1.1.2 asks for such a list).

Only those that the length rule would let through are worth an entry, so the list is short: an
online guesser is stopped by the lockout after a handful of tries, the list takes away that
handful. Phrases are kept without spaces, hyphens and the like, because that is how they are
compared.
"""

from __future__ import annotations

import re
from typing import Final

MIN_DISTINCT: Final = 5
"""Fewer different characters than this is one thing repeated: ``aaaaaaaaaaaa``, ``121212121``."""

_RUNS: Final = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
    "a1b2c3d4e5f6g7h8i9j0",
    "qazwsxedcrfvtgbyhnujm",
)
"""Walks over the keyboard and the alphabet; any stretch of one, either way, counts."""

_COMMON: Final = frozenset(
    """
    123456789abc 123456789qwe 1234567890qw 123qwe123qwe 123123123abc abc123abc123 abcd12345678
    adminadmin administrator administrator1 adminpassword changeme changeme1 changeme123
    changemenow chocolate123 defaultpassword dragonball123
    facebook123 football football1 football123 footballfootball fuckyou12345 godisgood123
    helloworld helloworld1 helloworld123 iloveyou iloveyou1 iloveyou123 iloveyou1234
    iloveyou12345 iloveyouforever ilovemyself123 ilovejesus123 jesuschrist jesuschrist1
    jesusislord jesusisking letmein123 letmeinletmein letmeinnow livestream123 livestreaming
    liverpoolfc liverpool123 manchester123 manchesterunited masterpassword michaeljackson
    michaeljordan minecraft123 monkeymonkey motherfucker mypassword mypassword1 mypassword123
    newpassword newpassword1 nopassword p4ssw0rd1234 pa55w0rd1234 passpasspass password
    password1 password12 password123 password1234 password12345 password123456 password01
    password2023 password2024 password2025 password2026 passwordpassword passw0rd passw0rd123
    passw0rd1234 passwort passwort123 motdepasse motdepasse123 pokemon12345 princess
    princess123 princess1234 qwerty123 qwerty1234 qwerty12345 qwerty123456 qwertyqwerty
    rootpassword rootroot rootstream rootstream123 rootstreamdb secret123456 secretpassword
    spiderman123 starwars starwars123 streamer1234 streampassword summer2023 summer2024
    summer2025 summer2026 sunshine sunshine123 sunshine1234 superman superman123 superman1234
    temporarypassword temppassword testpassword testtest testtest123 testtesttest thisismypassword
    trustno1 trustnoone twitch123456 unbreakable123 unknown12345 welcome12345 welcome123456
    welcome2023 welcome2024 welcome2025 welcome2026 whatever1234 winter2025 winter2026
    youtube12345
    """.split()  # noqa: SIM905 - a block of words reads better than a list
)

_SEPARATORS: Final = re.compile(r"[\s\-_.,:;!?*#]+")


def is_common(password: str) -> bool:
    """Whether a password is among the first that somebody would guess.

    >>> is_common("Password 1234!"), is_common("qwertyuiopas"), is_common("aaaaaaaaaaaa")
    (True, True, True)
    """
    folded = _SEPARATORS.sub("", password.casefold())
    return len(set(folded)) < MIN_DISTINCT or folded in _COMMON or _is_a_walk(folded)


def _is_a_walk(folded: str) -> bool:
    return any(folded in run or folded[::-1] in run for run in _RUNS)
