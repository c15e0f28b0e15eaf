"""Login sessions, second factors and access control.

Revision: 002
Revises: 006

The SQL stands in ``alembic/sql/002_*.sql``, in the order of the file names, so that it can be read
and run without Python; ``alembic check`` holds it against the models.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "006"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    for path in sorted(SQL.glob("002_*.sql")):
        if not path.name.endswith(".down.sql"):
            run(path)


def downgrade() -> None:
    for path in sorted(SQL.glob("002_*.down.sql"), reverse=True):
        run(path)


def run(path: Path) -> None:
    # A colon in SQL text would otherwise be read as the start of a bind parameter.
    op.execute(sa.text(path.read_text(encoding="utf-8").replace(":", "\\:")))
