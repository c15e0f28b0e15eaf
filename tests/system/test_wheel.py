"""The wheel built from this tree works without the tree."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
import venv
import zipfile
from pathlib import Path

import pytest

from rootstream_db import schema
from rootstream_db.testing import ThrowawayServers

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a program that knows nothing of this checkout and return what it printed."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "ROOTSTREAM_", "COV", "VIRTUAL_ENV"))
    }
    result = subprocess.run(
        command, cwd=cwd, env=inherited | variables, capture_output=True, text=True, check=False
    )

    assert 0 == result.returncode, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    _run(*build, CHECKOUT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, folder: Path) -> Path:
    """The programs of an empty virtual environment in which only the wheel was installed."""
    home = folder / "venv"
    venv.create(home, with_pip=True, symlinks=True)
    constraints = CHECKOUT / "scripts" / "constraints.txt"
    pip = (home / "bin" / "python", "-I", "-m", "pip", "install", "--quiet", "--no-compile")
    _run(*pip, "--constraint", constraints, wheel, cwd=folder)
    return home / "bin"


@pytest.fixture
def empty_database_url(servers: ThrowawayServers) -> str:
    name = f"wheel_{uuid.uuid4().hex[:12]}"
    servers.postgres.create_database(name)
    return servers.postgres.url(name)


def test_the_wheel_holds_the_package_and_its_migrations(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()

    assert {"rootstream_db", "rootstream_db-0.1.0.dist-info"} == {n.split("/")[0] for n in names}
    assert "rootstream_db/py.typed" in names
    assert "rootstream_db/_migrations/env.py" in names
    assert "rootstream_db/_migrations/versions/001_initial_schema.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    migrations = {path.name for path in (CHECKOUT / "alembic" / "versions").glob("*.py")}
    assert migrations <= {Path(name).name for name in names}


def test_it_can_be_imported(installed: Path, folder: Path):
    program = "import rootstream_db; print(rootstream_db.__file__)"

    assert str(folder) in _run(installed / "python", "-c", program, cwd=folder)


def test_its_command_explains_itself(installed: Path, folder: Path):
    shown = _run(installed / "rootstream-db", "--help", cwd=folder)

    assert {"demo", "db", "doctor"} <= set(shown.replace("│", " ").split())


def test_it_upgrades_a_database(
    installed: Path, folder: Path, empty_database_url: str, servers: ThrowawayServers
):
    command = installed / "rootstream-db"
    where = {
        "ROOTSTREAM_DATABASE_URL": empty_database_url,
        "ROOTSTREAM_REDIS_URL": servers.redis.url,
    }

    _run(command, "db", "upgrade", cwd=folder, **where)

    assert schema.head() in _run(command, "db", "current", cwd=folder, **where)
    _run(command, "db", "check", cwd=folder, **where)
