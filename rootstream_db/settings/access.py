"""Settings of access control: the roles that nobody has to grant."""

from __future__ import annotations

from pydantic import Field

from rootstream_db.settings.section import Section


class AccessSettings(Section):
    """Who has which role without a grant."""

    everyone_role: str = Field(
        default="viewer", description="What every open account has everywhere; empty: nothing."
    )
    owner_role: str = Field(
        default="owner", description="What an owner has on each own stream; empty: nothing."
    )
