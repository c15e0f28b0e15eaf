"""RootStream DB: the data layer of a live-streaming platform, on PostgreSQL and Redis."""

from __future__ import annotations

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConfigurationError,
    ConflictError,
    DatabaseUnavailableError,
    NotFoundError,
    ReadOnlyDatabaseError,
    RootStreamError,
    ValidationError,
)
from rootstream_db.rootstream import RootStream
from rootstream_db.settings import Settings
from rootstream_db.unit_of_work import UnitOfWork

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "Database",
    "DatabaseUnavailableError",
    "NotFoundError",
    "ReadOnlyDatabaseError",
    "RootStream",
    "RootStreamError",
    "Settings",
    "UnitOfWork",
    "ValidationError",
]
