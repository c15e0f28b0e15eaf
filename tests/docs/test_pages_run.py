"""Every Python block of the README and of the pages under docs/ is executed, and every example.

The blocks of one page make one program, run in an empty folder, as a reader would type them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = "from rootstream_db.cli.app import main; main()"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
PROGRAMS = {
    str(page.relative_to(CHECKOUT)): "\n".join(blocks)
    for page in PAGES
    if (blocks := FENCE.findall(page.read_text(encoding="utf-8")))
} | {
    str(example.relative_to(CHECKOUT)): example.read_text(encoding="utf-8")
    for example in sorted((CHECKOUT / "docs" / "examples").glob("*.py"))
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that an embedded server's unprivileged account may enter, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="rootstream-docs-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def _run(command: list[str], folder: Path, **variables: str) -> None:
    inherited = {key: os.environ[key] for key in os.environ if not key.startswith("ROOTSTREAM_")}
    result = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(CHECKOUT), **variables},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert 0 == result.returncode, result.stdout[-2000:] + result.stderr[-4000:]


@pytest.mark.docs
@pytest.mark.parametrize("page", PROGRAMS)
def test_the_code_of_a_page_runs(page: str, folder: Path):
    _run([sys.executable, "-c", PROGRAMS[page]], folder)


@pytest.mark.docs
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_lines_for_cron_that_anchor_and_verify_the_log_run(folder: Path):
    page = "docs/how-to/audit-changes.md"
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    _, found, rest = text.partition("From cron, with a key made once:\n")
    block = re.match(r"\n((?:    .+\n)+)", rest)
    assert found
    assert block is not None
    assert 4 == len(block[1].splitlines())
    command = shlex.join([sys.executable, "-c", COMMAND])
    lines = block[1].replace("rootstream-db", command).replace("/mnt/elsewhere", ".")
    _run([sys.executable, "-c", PROGRAMS[page]], folder)
    (folder / "anchors.jsonl").unlink()

    _run(["sh", "-euc", lines], folder, ROOTSTREAM_EMBEDDED__PATH="./data")

    assert 1 == len((folder / "anchors.jsonl").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_the_links_of_a_page_lead_somewhere(page: Path):
    targets = LINK.findall(page.read_text(encoding="utf-8"))

    assert [] == [target for target in targets if not (page.parent / target).exists()]


def test_every_page_can_be_found_from_the_readme():
    found, waiting = set(), {CHECKOUT / "README.md"}
    while waiting:
        page = waiting.pop()
        found.add(page)
        targets = LINK.findall(page.read_text(encoding="utf-8"))
        waiting |= {(page.parent / target).resolve() for target in targets} & set(PAGES) - found

    assert [] == [str(page.relative_to(CHECKOUT)) for page in PAGES if page not in found]


def test_the_readme_is_short_and_has_an_example():
    lines = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()

    assert 120 >= len(lines)
    assert "README.md" in PROGRAMS
