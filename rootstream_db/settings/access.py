"""Settings of access control: the roles that nobody has to grant, the life of rotated keys."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from rootstream_db.settings.section import Duration, Section


class AccessSettings(Section):
    """Who has which role without a grant, and how long rotated API keys live on."""

    everyone_role: str = Field(
        default="viewer", description="What every open account has everywhere; empty: nothing."
    )
    owner_role: str = Field(
        default="owner", description="What an owner has on each own stream; empty: nothing."
    )
    key_overlap: Duration = Field(
        default=timedelta(hours=24),
        ge=timedelta(0),
        description="How long an API key goes on to work after it was rotated.",
    )
