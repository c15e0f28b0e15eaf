"""What Alembic runs: everything that matters is in ``rootstream_db.schema``."""

from __future__ import annotations

from alembic import context

from rootstream_db import schema

if context.is_offline_mode():
    schema.run_offline(context)
else:
    schema.run_online(context)
