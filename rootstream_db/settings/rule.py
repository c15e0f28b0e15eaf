"""What a doubt about a configuration consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rootstream_db.errors import Severity
from rootstream_db.settings.models import Settings

Category: TypeAlias = Literal["schema", "security", "performance"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A doubt, and when it applies."""

    id: str
    severity: Severity
    category: Category
    setting: str
    applies: Callable[[Settings], bool]
    message: str
    advice: str
