"""Logs of long-running commands: on stderr, for people or as one JSON object a line."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from rootstream_db.correlation import current_correlation_id

if TYPE_CHECKING:
    from rootstream_db.settings import LoggingSettings

CONSOLE = "%(asctime)s %(levelname)-7s %(message)s"


def write_logs(settings: LoggingSettings) -> None:
    """Send this process's logs to stderr in the form and from the level that is configured.

    The level is that of this package; of the libraries it uses, warnings are written.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if settings.format == "json" else logging.Formatter(CONSOLE)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("rootstream_db").setLevel(settings.level)


class JsonFormatter(logging.Formatter):
    """One object a line, with the field names of the Elastic Common Schema."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; what a call gave as ``hook`` becomes fields of its own."""
        facts: dict[str, Any] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
            "trace.id": current_correlation_id(),
            "error.stack_trace": self.formatException(record.exc_info) if record.exc_info else None,
        }
        facts |= {f"hook.{name}": value for name, value in getattr(record, "hook", {}).items()}
        return orjson.dumps({k: v for k, v in facts.items() if v is not None}, default=str).decode()
