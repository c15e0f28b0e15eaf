"""What a reader of events must not load: processes that only read have little memory."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("redis", "alembic", "cryptography", "zstandard", "argon2", "email_validator", "segno")


def test_reading_events_loads_neither_ciphers_nor_clients_of_other_servers():
    program = (
        "import sys\n"
        "import rootstream_db.database, rootstream_db.services.event_store\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert [] == loaded.stdout.split()
