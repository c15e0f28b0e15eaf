"""What a user imports is deliberate, sorted and cheap to import."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import rootstream_db

# Engine clients and terminal libraries: loaded by those who use them, when they use them.
EXPENSIVE = ("redis", "alembic", "rich", "typer", "influxdb_client", "cryptography", "waitress")

# Adding a name is a promise; removing one breaks somebody's program.
PUBLIC = [
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

PACKAGES = [
    "rootstream_db",
    *(
        info.name
        for info in pkgutil.walk_packages(rootstream_db.__path__, "rootstream_db.")
        if info.ispkg
    ),
]


def test_the_public_face_is_what_was_promised():
    assert PUBLIC == rootstream_db.__all__


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_exports_is_sorted_and_exists(package: str):
    module = importlib.import_module(package)
    exported = getattr(module, "__all__", [])

    assert sorted(exported, key=_constants_classes_functions) == list(exported)
    assert [] == [name for name in exported if not hasattr(module, name)]


def _constants_classes_functions(name: str) -> tuple[bool, bool, str]:
    return (not name.isupper(), not name[0].isupper(), name)


def test_importing_the_package_loads_no_engine_client():
    program = (
        "import sys, rootstream_db\n"
        f"print(*[name for name in {EXPENSIVE!r} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert [] == loaded.stdout.split()
