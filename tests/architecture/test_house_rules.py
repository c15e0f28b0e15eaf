"""The house rules of rules.py hold for every file of the tree."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tests.architecture import rules

CHECKOUT = Path(__file__).resolve().parents[2]

# (rules, folders they are for)
SCOPES = [
    (rules.RULES_OF_THE_PACKAGE, ("rootstream_db",)),
    (rules.RULES_OF_ALL_PRODUCT_CODE, ("rootstream_db", "scripts")),
    (rules.RULES_OF_EVERYTHING, ("rootstream_db", "scripts", "tests")),
    (rules.RULES_OF_TESTS, ("tests",)),
]
CASES = [(rule, folders) for group, folders in SCOPES for rule in group]


@pytest.fixture(scope="module")
def modules() -> list[rules.Module]:
    return [
        rules.Module(
            PurePosixPath(path.relative_to(CHECKOUT).as_posix()), path.read_text(encoding="utf-8")
        )
        for folder in ("rootstream_db", "scripts", "tests")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
    ]


@pytest.mark.parametrize(("rule", "folders"), CASES, ids=[rule.__name__ for rule, _ in CASES])
def test_the_tree_obeys(rule: rules.Rule, folders: tuple[str, ...], modules: list[rules.Module]):
    breaches = [
        f"{module.path}:{finding.line}: {finding.message}"
        for module in modules
        if module.within(*folders)
        for finding in rule(module)
    ]

    assert not breaches, f"{rule.__doc__}\n" + "\n".join(breaches)


def test_the_rules_saw_the_package(modules: list[rules.Module]):
    """A wrong path would let every rule hold over nothing."""
    assert {"rootstream_db/clock.py", "scripts/bootstrap.py"} <= {str(m.path) for m in modules}
