"""The check of a one-time code: opening the stored secret, and three codes made to compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Final

import pyotp

from rootstream_db import RootStream
from rootstream_db.security.keyring import KeyRing, row_context
from rootstream_db.security.totp import Totp
from scripts.benchmarks.auth.scale import Scale
from scripts.benchmarks.report import Aim, Report, Table, Total

AIM_US: Final = 15.0
_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SECRET: Final = b"12345678901234567890"


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure our check beside pyotp's, which is given the secret in clear."""
    keyring, context = rootstream.keyring, row_context("user_mfa", 1)
    sealed = keyring.seal(_SECRET, purpose="benchmark", context=context)
    checks: dict[str, Callable[[str], bool]] = {
        "ours: open the secret, three steps": lambda code: _ours(keyring, sealed, context, code),
        "pyotp: secret in clear, three steps": _pyotp,
    }
    right, wrong = Totp(_SECRET).code(Totp(_SECRET).step(_MOMENT)), "000000"
    taken: dict[str, list[float]] = {name: [] for name in checks}
    answers: set[tuple[bool, ...]] = set()
    for _ in range(scale.rounds):
        for name, check in checks.items():
            answers.add((check(right), check(wrong)))
            before = time.process_time()
            for _ in range(scale.operations):
                check(wrong)
            taken[name].append((time.process_time() - before) / scale.operations * 1e6)
    title = "check a one-time code"
    rows = [{"who": name, "client CPU µs": median(found)} for name, found in taken.items()]
    report.tables.append(Table(title, rows, ["a code of none of the steps; no look-up, no note"]))
    ours = median(next(iter(taken.values())))
    report.aims.append(Aim(f"{title}: µs", AIM_US, ours, at_most=True))
    report.totals.append(Total(f"{title}: right and wrong code", {(True, False)}, answers))


def _ours(keyring: KeyRing, sealed: bytes, context: bytes, code: str) -> bool:
    totp = Totp(keyring.open(sealed, purpose="benchmark", context=context))
    now = totp.step(_MOMENT)
    return totp.match(code, range(now - 1, now + 2)) is not None


def _pyotp(code: str) -> bool:
    totp = pyotp.TOTP("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    return totp.verify(code, for_time=_MOMENT, valid_window=1)
