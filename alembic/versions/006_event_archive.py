"""Archive old ranges of the event log, and make personal data in it erasable.

Revision: 006
Revises: 005

The SQL stands in ``alembic/sql/006_*.sql``, in the order of the file names, so that it can be read
and run without Python; ``alembic check`` holds it against the models.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "006"
down_revision = "005"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    for path in sorted(SQL.glob("006_*.sql")):
        if not path.name.endswith(".down.sql"):
            run(path)


def downgrade() -> None:
    for path in sorted(SQL.glob("006_*.down.sql"), reverse=True):
        run(path)


def run(path: Path) -> None:
    # A colon in SQL text would otherwise be read as the start of a bind parameter.
    op.execute(sa.text(path.read_text(encoding="utf-8").replace(":", "\\:")))
