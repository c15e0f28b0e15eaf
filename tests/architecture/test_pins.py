"""scripts/constraints.txt pins everything pyproject.toml asks for, and names no place to get it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
CONSTRAINTS = (CHECKOUT / "scripts" / "constraints.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    requirement
    for group in (PROJECT["dependencies"], *EXTRAS.values())
    for requirement in map(Requirement, group)
    if requirement.name != PROJECT["name"]
]


def test_no_line_says_where_packages_come_from():
    assert "://" not in CONSTRAINTS
    assert not re.search(r"^\s*-", CONSTRAINTS, re.MULTILINE)


def test_every_line_is_one_exact_version():
    lines = [Requirement(line) for line in CONSTRAINTS.splitlines() if line.strip()]

    assert [] == [str(line) for line in lines if not re.fullmatch(r"==[\w.]+", str(line.specifier))]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_a_requirement_has_a_pin_that_satisfies_it(requirement: Requirement):
    pins = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in map(Requirement, CONSTRAINTS.split("\n")[:-1])
    }

    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_every_python_dependency_is_explained():
    page = (CHECKOUT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")

    assert [] == [
        requirement.name for requirement in REQUIREMENTS if f"`{requirement.name}`" not in page
    ]
