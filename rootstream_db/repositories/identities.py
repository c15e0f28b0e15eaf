"""Where identities at other sites are found."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from rootstream_db.models.access import ExternalIdentity
from rootstream_db.repositories.base import Repository


class ExternalIdentityRepository(Repository[ExternalIdentity]):
    """Identities, found by issuer and subject."""

    model = ExternalIdentity

    def get_by_subject(self, issuer: str, subject: str) -> ExternalIdentity | None:
        """Return the identity as it is now, or None."""
        query = select(ExternalIdentity).where(
            ExternalIdentity.issuer == issuer, ExternalIdentity.subject == subject
        )
        return self.session.scalar(query.execution_options(populate_existing=True))

    def list_of_user(self, user_id: int) -> Sequence[ExternalIdentity]:
        """Return the identities of an account, in the order they were linked."""
        query = select(ExternalIdentity).where(ExternalIdentity.user_id == user_id)
        return self.session.scalars(query.order_by(ExternalIdentity.id)).all()
