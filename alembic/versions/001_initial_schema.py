"""Lay out the initial schema: accounts, streams, events and what the database does by itself.

Revision: 001
Revises: none

The SQL stands in ``alembic/sql/001_*.sql``, in the order of the file names, so that it can be read
and run without Python; ``alembic check`` holds it against the models.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"

TABLES = (
    "projection_checkpoints",
    "snapshots",
    "event_commit",
    "event_log",
    "event_stream",
    "event_log_head",
    "recordings",
    "counter_flushes",
    "viewer_sessions",
    "stream_sessions",
    "stream_totals",
    "stream_live",
    "stream_keys",
    "streams",
    "usage_logs",
    "billing_accounts",
    "sessions",
    "login_throttle",
    "user_tokens",
    "users",
)


def upgrade() -> None:
    for path in sorted(SQL.glob("001_*.sql")):
        if not path.name.endswith(".down.sql"):
            run(path)


def downgrade() -> None:
    for path in sorted(SQL.glob("001_*.down.sql")):
        run(path)
    for table in TABLES:
        op.drop_table(table)
    op.execute("DROP FUNCTION set_updated_at()")


def run(path: Path) -> None:
    # A colon in SQL text would otherwise be read as the start of a bind parameter.
    op.execute(sa.text(path.read_text(encoding="utf-8").replace(":", "\\:")))
