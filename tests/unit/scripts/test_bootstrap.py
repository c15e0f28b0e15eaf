"""scripts/bootstrap.py tells a usable .venv from one that must be built anew."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from scripts import bootstrap

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv is finished, with a Python that answers like one."""
    root = tmp_path / "checkout with a space"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(CHECKOUT / "pyproject.toml", root)
    shutil.copy(CHECKOUT / "scripts" / "constraints.txt", root / "scripts")
    _finish(root, version="3 11")
    return root


def _finish(root: Path, *, version: str) -> None:
    folder = root / ".venv" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python").write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
    (folder / "python").chmod(0o755)
    stamp = json.dumps(bootstrap.Environment(root).wanted())
    (root / ".venv" / "rootstream-setup.json").write_text(stamp, encoding="utf-8")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an environment did, in order, instead of doing it."""
    actions: list[str] = []

    def create(environment: bootstrap.Environment) -> None:
        actions.append("create")
        _finish(environment.checkout, version="3 11")

    monkeypatch.setattr(bootstrap.Environment, "_create", create)
    monkeypatch.setattr(bootstrap.Environment, "_install", lambda _: actions.append("install"))
    return actions


def test_a_finished_environment_is_left_alone(checkout: Path, done: list[str]):
    bootstrap.Environment(checkout).refresh()

    assert [] == done


def test_a_missing_environment_is_created(checkout: Path, done: list[str]):
    shutil.rmtree(checkout / ".venv")

    bootstrap.Environment(checkout).refresh()
    bootstrap.Environment(checkout).refresh()

    assert ["create", "install"] == done


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/constraints.txt", "redis==", "redis==9."),
        ("pyproject.toml", "rootstream_db.cli.app:main", "rootstream_db.cli.app:other"),
    ],
)
def test_what_is_to_be_installed_changed(
    checkout: Path, done: list[str], file: str, old: str, new: str
):
    path = checkout / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    bootstrap.Environment(checkout).refresh()

    assert ["install"] == done


def test_lint_settings_install_nothing(checkout: Path, done: list[str]):
    with (checkout / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('[tool.another]\nsetting = "x"\n')

    bootstrap.Environment(checkout).refresh()

    assert [] == done


def test_a_copied_checkout_builds_its_own(checkout: Path, done: list[str], capsys):
    copy = checkout.parent / "copy"
    shutil.copytree(checkout, copy)

    bootstrap.Environment(copy).refresh()

    assert ["create", "install"] == done
    assert "made elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("breakage", ["exit 1", "exec /nonexistent/python"])
def test_a_python_that_does_not_run_here_is_replaced(
    checkout: Path, done: list[str], capsys, breakage: str
):
    (checkout / ".venv/bin/python").write_text(f"#!/bin/sh\n{breakage}\n", encoding="utf-8")

    bootstrap.Environment(checkout).refresh()

    assert ["create", "install"] == done
    assert "does not run here" in capsys.readouterr().err


def test_a_python_that_cannot_be_reached_is_replaced(checkout: Path, done: list[str]):
    """What an unprivileged user finds behind another user's link."""
    python = checkout / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nonexistent/bin/python3")

    bootstrap.Environment(checkout).refresh()

    assert ["create", "install"] == done


def test_an_old_python_is_replaced(checkout: Path, done: list[str], capsys):
    _finish(checkout, version="3 9")

    bootstrap.Environment(checkout).refresh()

    assert ["create", "install"] == done
    assert "it has Python 3.9" in capsys.readouterr().err


def test_another_python_is_replaced_only_when_one_was_asked_for(checkout: Path, done: list[str]):
    _finish(checkout, version="3 99")

    bootstrap.Environment(checkout).refresh()
    assert [] == done

    bootstrap.Environment(checkout).refresh(exact=True)
    assert ["create", "install"] == done


def test_an_unfinished_installation_is_taken_up_again(checkout: Path, done: list[str]):
    (checkout / ".venv/rootstream-setup.json").unlink()
    (checkout / ".venv/bin/activate").write_text(f"VIRTUAL_ENV='{checkout}/.venv'", "utf-8")

    bootstrap.Environment(checkout).refresh()

    assert ["install"] == done


def test_a_missing_venv_module_is_named_with_its_package(checkout: Path, monkeypatch, capsys):
    shutil.rmtree(checkout / ".venv")
    monkeypatch.setattr(bootstrap, "CHECKOUT", checkout)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    assert 78 == bootstrap.main([])
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt-get install python{version}-venv" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_an_environment_that_cannot_be_removed_is_the_owners_to_remove(
    checkout: Path, monkeypatch, capsys
):
    _finish(checkout, version="3 9")
    monkeypatch.setattr(bootstrap, "CHECKOUT", checkout)
    (checkout / ".venv").chmod(0o500)
    try:
        assert 1 == bootstrap.main([])
    finally:
        (checkout / ".venv").chmod(0o700)
    assert "cannot remove .venv" in capsys.readouterr().err


def test_a_failed_command_shows_the_end_of_its_log(checkout: Path):
    environment = bootstrap.Environment(checkout)
    program = "import sys; print('line one', flush=True); sys.exit('no network')"

    with pytest.raises(bootstrap.SetupError, match="installing failed\n  line one\n  no network"):
        environment._run([sys.executable, "-c", program], "installing")
