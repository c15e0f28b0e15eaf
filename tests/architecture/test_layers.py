"""Imports go down only: the contracts in pyproject.toml hold, and a breach is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as lint; lint()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_is_kept():
    result = _lint_imports(CHECKOUT)

    assert 0 == result.returncode, result.stdout[-4000:] + result.stderr[-2000:]


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("errors.py", "from rootstream_db import services", "errors is not allowed to import"),
        ("models/base.py", "import redis", "models is not allowed to import redis"),
        ("stray.py", "", "stray"),
    ],
)
def test_a_breach_is_noticed(tmp_path: Path, module: str, line: str, complaint: str):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "rootstream_db", tmp_path / "rootstream_db", ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    with (tmp_path / "rootstream_db" / module).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")

    result = _lint_imports(tmp_path)

    assert 0 != result.returncode
    assert "BROKEN" in result.stdout
    assert complaint in result.stdout
