"""Who may do what: roles, grants, permissions, API keys, identities at other sites."""

from __future__ import annotations

from rootstream_db.services.access.changes import AccessChange
from rootstream_db.services.access.fence import FencedCache
from rootstream_db.services.access.identities import ExternalIdentities
from rootstream_db.services.access.keys import ApiKeys
from rootstream_db.services.access.manager import AccessManager
from rootstream_db.services.access.oidc import OidcIdentity, OidcProvider, OidcVerifier
from rootstream_db.services.access.subjects import ActsForUser, ApiKeyInfo, Subject

__all__ = [
    "AccessChange",
    "AccessManager",
    "ActsForUser",
    "ApiKeyInfo",
    "ApiKeys",
    "ExternalIdentities",
    "FencedCache",
    "OidcIdentity",
    "OidcProvider",
    "OidcVerifier",
    "Subject",
]
