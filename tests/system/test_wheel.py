"""The wheel built from this tree works without the tree.

What it needs is not downloaded but linked from the environment of the tests: exactly the
distributions that the wheel's metadata leads to, so that one it forgot to declare is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    """The programs of a virtual environment with the wheel and what it declares to need."""
    home = folder / "venv"
    venv.create(home)
    python = home / "bin" / "python"
    packages = Path(
        _run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip()
    )
    itself = metadata.PathDistribution(zipfile.Path(wheel, "rootstream_db-0.1.0.dist-info/"))
    for entry in _entries_of(_needed_by(itself)):
        (packages / entry.name).symlink_to(entry)
    pip = (sys.executable, "-I", "-m", "pip", "--python", python)
    _run(*pip, "install", "--quiet", "--no-index", wheel, cwd=folder)
    return home / "bin"


def _needed_by(
    distribution: metadata.Distribution, extras: frozenset[str] = frozenset()
) -> dict[str, metadata.Distribution]:
    """Return the distributions that installing this one brings, by their names."""
    found: dict[str, metadata.Distribution] = {}
    for needed in map(Requirement, distribution.requires or ()):
        wanted = [{"extra": extra} for extra in extras or {""}]
        if needed.marker is None or any(map(needed.marker.evaluate, wanted)):
            found[canonicalize_name(needed.name)] = metadata.distribution(needed.name)
            found |= _needed_by(metadata.distribution(needed.name), frozenset(needed.extras))
    return found


def _entries_of(distributions: dict[str, metadata.Distribution]) -> Iterator[Path]:
    """Yield the files and folders of site-packages that belong to these distributions."""
    for distribution in distributions.values():
        home = Path(str(distribution.locate_file("")))
        names = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        yield from (home / name for name in sorted(names))


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


def test_nothing_undeclared_came_along(installed: Path, folder: Path):
    program = "import importlib.util as u; print(*map(u.find_spec, ('pytest', 'hatchling', 'av')))"

    assert "None None None" == _run(installed / "python", "-c", program, cwd=folder).strip()


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
