"""PostgreSQL: pools, transactions, repeats and the translation of errors."""

from __future__ import annotations

from rootstream_db.database.circuit import CircuitState
from rootstream_db.database.database import Database, PingResult, PoolStatus

__all__ = ["CircuitState", "Database", "PingResult", "PoolStatus"]
