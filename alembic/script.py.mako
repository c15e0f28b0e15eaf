"""${message}

Revision: ${up_revision}
Revises: ${down_revision | comma,n}

Rules: add before the code that needs it rolls out, drop after the last code that used it is gone;
no lock on a busy table for longer than lock_timeout; data moves in batches of their own revision.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
