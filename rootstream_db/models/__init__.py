"""What is stored: every table as a typed class."""

from __future__ import annotations

from rootstream_db.models.access import (
    AccessState,
    AccessVersion,
    ApiKey,
    ExternalIdentity,
    Role,
    RoleGrant,
    RoleParent,
    RolePermission,
)
from rootstream_db.models.base import Base
from rootstream_db.models.billing import BillingAccount, BillingStatus, UsageKind, UsageLog
from rootstream_db.models.event_archive import (
    EventArchive,
    EventArchiveAggregate,
    EventArchivedId,
    EventArchiveSubject,
    EventArchiveUser,
)
from rootstream_db.models.events import (
    EventCommit,
    EventLog,
    EventLogHead,
    EventStream,
    Snapshot,
)
from rootstream_db.models.mfa import (
    ChallengePurpose,
    FactorKind,
    MfaAttempt,
    MfaAttemptMethod,
    MfaFactor,
    MfaOutcome,
    MfaThrottle,
    PasskeyChallenge,
    RecoveryCode,
    TrustedDevice,
)
from rootstream_db.models.projections import (
    ActivityEntry,
    ProjectionCheckpoint,
    StreamStatsDay,
)
from rootstream_db.models.recordings import Recording, RecordingStatus
from rootstream_db.models.security_events import (
    RiskLevel,
    SecurityEvent,
    SecurityEventKind,
)
from rootstream_db.models.sessions import (
    AuthState,
    RevokeReason,
    SessionInvalidation,
    UserSession,
)
from rootstream_db.models.stream_sessions import (
    CounterFlush,
    EndReason,
    StreamSession,
    ViewerSession,
)
from rootstream_db.models.streams import (
    RecordPolicy,
    Stream,
    StreamKey,
    StreamLive,
    StreamTotals,
    Visibility,
)
from rootstream_db.models.subject_keys import SubjectKey
from rootstream_db.models.users import LoginThrottle, TokenPurpose, User, UserToken
from rootstream_db.models.webhooks import (
    DeliveryState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookRelay,
)

__all__ = [
    "AccessState",
    "AccessVersion",
    "ActivityEntry",
    "ApiKey",
    "AuthState",
    "Base",
    "BillingAccount",
    "BillingStatus",
    "ChallengePurpose",
    "CounterFlush",
    "DeliveryState",
    "EndReason",
    "EventArchive",
    "EventArchiveAggregate",
    "EventArchiveSubject",
    "EventArchiveUser",
    "EventArchivedId",
    "EventCommit",
    "EventLog",
    "EventLogHead",
    "EventStream",
    "ExternalIdentity",
    "FactorKind",
    "LoginThrottle",
    "MfaAttempt",
    "MfaAttemptMethod",
    "MfaFactor",
    "MfaOutcome",
    "MfaThrottle",
    "PasskeyChallenge",
    "ProjectionCheckpoint",
    "RecordPolicy",
    "Recording",
    "RecordingStatus",
    "RecoveryCode",
    "RevokeReason",
    "RiskLevel",
    "Role",
    "RoleGrant",
    "RoleParent",
    "RolePermission",
    "SecurityEvent",
    "SecurityEventKind",
    "SessionInvalidation",
    "Snapshot",
    "Stream",
    "StreamKey",
    "StreamLive",
    "StreamSession",
    "StreamStatsDay",
    "StreamTotals",
    "SubjectKey",
    "TokenPurpose",
    "TrustedDevice",
    "UsageKind",
    "UsageLog",
    "User",
    "UserSession",
    "UserToken",
    "ViewerSession",
    "Visibility",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookRelay",
]
