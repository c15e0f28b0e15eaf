"""Read models made of events: kept up to date exactly once, made anew at will."""

from __future__ import annotations

from rootstream_db.services.projections.activity import ActivityFeed, ActivityProjection
from rootstream_db.services.projections.manager import Projections
from rootstream_db.services.projections.projection import Projection
from rootstream_db.services.projections.status import (
    Outcome,
    ProjectionRun,
    ProjectionState,
    ProjectionStatus,
)
from rootstream_db.services.projections.stream_stats import StreamStatsProjection

__all__ = [
    "ActivityFeed",
    "ActivityProjection",
    "Outcome",
    "Projection",
    "ProjectionRun",
    "ProjectionState",
    "ProjectionStatus",
    "Projections",
    "StreamStatsProjection",
]
