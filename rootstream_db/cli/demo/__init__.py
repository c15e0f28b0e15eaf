"""``rootstream-db demo``: the sixty-second trial on real servers."""

from __future__ import annotations

from rootstream_db.cli.demo.command import register

__all__ = ["register"]
