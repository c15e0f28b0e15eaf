"""Write docs/reference/ from the code; ``--check`` says which pages no longer tell the truth."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
REFERENCE: Final = CHECKOUT / "docs" / "reference"
NOTE: Final = "<!-- Written by scripts/generate_reference.py: change the code, then run it. -->"
PAGES: Final = ("api", "cli", "errors", "redis_keys", "schema", "settings")


def main() -> int:
    """Write or check every page and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check_only = parser.parse_args().check
    stale = [name for name in PAGES if is_stale(name)]
    for name in stale:
        if not check_only:
            page(name).parent.mkdir(parents=True, exist_ok=True)
            page(name).write_text(rendered(name), encoding="utf-8")
        print(f"{page(name).relative_to(CHECKOUT)}: {'is stale' if check_only else 'written'}")
    if check_only and stale:
        print("run `.venv/bin/python scripts/generate_reference.py` and commit the result")
        return 1
    return 0


def page(name: str) -> Path:
    """Return where the page ``name`` is kept."""
    return REFERENCE / f"{name.replace('_', '-')}.md"


def is_stale(name: str) -> bool:
    """Return whether the page is missing or says something else than the code."""
    return not page(name).exists() or page(name).read_text(encoding="utf-8") != rendered(name)


def rendered(name: str) -> str:
    """Return the page as the code has it."""
    # The tree this file is part of, whatever else may be installed.
    sys.path.insert(0, str(CHECKOUT))
    try:
        text: str = importlib.import_module(f"scripts.reference.{name}").render()
    finally:
        sys.path.remove(str(CHECKOUT))
    return f"{NOTE}\n\n{text.rstrip()}\n"


if __name__ == "__main__":
    raise SystemExit(main())
