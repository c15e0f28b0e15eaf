"""What is worth a second look in a configuration that loads: for ``rootstream-db config check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rootstream_db.errors import Severity
from rootstream_db.settings.models import Settings
from rootstream_db.settings.rule import Category, Rule
from rootstream_db.settings.rules import RULES

__all__ = ["Category", "Finding", "findings"]

SettingName: TypeAlias = str
_UNKNOWN: Literal["unknown-variable"] = "unknown-variable"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One doubt about a configuration, with what to do about it.

    Attributes:
        id: stable name for programs and for silencing.
        severity: how urgent it is.
        category: ``schema`` (parts that contradict each other), ``security``, ``performance``.
        setting: dotted name of the setting to change.
        message: what is the matter.
        advice: what to do.
    """

    id: str
    severity: Severity
    category: Category
    setting: SettingName
    message: str
    advice: str


def findings(settings: Settings) -> list[Finding]:
    """Return every doubt about ``settings``, the most severe first."""
    found = [_finding(rule) for rule in RULES if rule.applies(settings)]
    found += [_unknown(name) for name in settings.unknown_variables]
    order = list(Severity)
    return sorted(found, key=lambda finding: -order.index(finding.severity))


def _finding(rule: Rule) -> Finding:
    return Finding(
        id=rule.id,
        severity=rule.severity,
        category=rule.category,
        setting=rule.setting,
        message=rule.message,
        advice=rule.advice,
    )


def _unknown(variable: str) -> Finding:
    return Finding(
        id=_UNKNOWN,
        severity=Severity.MEDIUM,
        category="schema",
        setting=variable,
        message=f"the environment variable {variable} names no setting and has no effect",
        advice="Correct its spelling or remove it; `rootstream-db config show` lists every name.",
    )
