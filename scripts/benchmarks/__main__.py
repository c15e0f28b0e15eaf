"""Run one suite of benchmarks on throwaway servers and print what it found."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from rootstream_db import RootStream, Settings
from rootstream_db.settings import DatabaseSettings, EmbeddedSettings, RedisSettings
from scripts.benchmarks.auth import suite as auth
from scripts.benchmarks.events import suite as events
from scripts.benchmarks.foundation import suite as foundation
from scripts.benchmarks.report import render

POOL_SIZE = 20

SUITES = {"auth": auth, "events": events, "foundation": foundation}


def main() -> int:
    """Measure, print, and return 1 if a total disagrees."""
    options = parser().parse_args()
    suite = SUITES[options.suite]
    scale = suite.QUICK if options.quick else suite.FULL
    with durable_servers(options.folder) as rootstream:
        report = suite.run(rootstream, scale, parts=options.only or None, say=say)
    print(json.dumps(report.as_dict(), indent=2) if options.json else render(report))
    return 0 if report.totals_agree else 1


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    described.add_argument("suite", choices=sorted(SUITES))
    described.add_argument("--json", action="store_true", help="print one JSON object")
    described.add_argument("--quick", action="store_true", help="shorter and less exact")
    described.add_argument("--only", action="append", metavar="PART", help="this part; repeatable")
    described.add_argument("--folder", type=Path, help="where to keep the servers while it runs")
    return described


@contextmanager
def durable_servers(folder: Path | None) -> Iterator[RootStream]:
    """Run the data layer on embedded servers with durable settings, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="rootstream-bench-", dir=folder))
    # As root, the servers run as somebody else, who must be able to walk in.
    path.chmod(0o711)
    settings = Settings(
        # Named by the embedded servers; whatever else the environment configures is not meant.
        database=DatabaseSettings(url=SecretStr("postgresql://"), pool_size=POOL_SIZE),
        redis=RedisSettings(url=SecretStr("redis://localhost")),
        embedded=EmbeddedSettings(),
    )
    try:
        with RootStream.embedded(path, settings=settings) as rootstream:
            rootstream.upgrade_schema()
            yield rootstream
    finally:
        shutil.rmtree(path, ignore_errors=True)


def say(message: str) -> None:
    """Tell whoever waits what is being measured."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
