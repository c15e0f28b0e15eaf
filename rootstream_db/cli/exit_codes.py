"""What the exit status of a command says; cron jobs and monitors rely on these numbers."""

from __future__ import annotations

from enum import IntEnum

from rootstream_db.errors import (
    ConfigurationError,
    JobRunningError,
    NotFoundError,
    RootStreamError,
    SchemaError,
    ValidationError,
)


class ExitCode(IntEnum):
    """Exit statuses, kept clear of the shell's own; 75 and 78 are those of sysexits.h."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DEGRADED = 3
    TARGET_MISSING = 10
    NOT_LOCKED = 11
    WRONG_KEY = 12
    TRY_AGAIN = 75
    BAD_CONFIGURATION = 78
    INTERRUPTED = 130


def exit_code_for(error: RootStreamError) -> ExitCode:
    """Return the exit status that tells a script what kind of failure this was."""
    if isinstance(error, ConfigurationError):
        return ExitCode.BAD_CONFIGURATION
    if isinstance(error, ValidationError):
        return ExitCode.USAGE
    if isinstance(error, SchemaError):
        return ExitCode.DEGRADED
    if isinstance(error, NotFoundError):
        return ExitCode.TARGET_MISSING
    if isinstance(error, JobRunningError):
        return ExitCode.NOT_LOCKED
    return ExitCode.TRY_AGAIN if error.retryable else ExitCode.FAILURE
