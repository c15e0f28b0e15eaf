"""A connection lost during COMMIT: the outcome is unknown, and nobody pretends otherwise."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import (
    DatabaseUnavailableError,
)
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.items import count, pid, put
from tests.fixtures.proxy import Proxy


class TestUnknownCommit:
    """The connection ends between COMMIT and its answer: the caller cannot know."""

    @pytest.fixture(params=[True, False], ids=["it happened", "it did not"])
    def happened(self, request: pytest.FixtureRequest, proxy: Proxy) -> bool:
        armed = [True]

        def at_commit(data: bytes) -> bool:
            if b"COMMIT" in data and armed:
                armed.clear()
                return True
            return False

        setattr(proxy, "cut_after" if request.param else "cut_before", at_commit)
        return bool(request.param)

    def test_it_is_said_and_not_repeated(self, through, db: Database, until, *, happened: bool):
        runs: list[int] = []
        after: list[str] = []

        def unit(work: UnitOfWork) -> None:
            runs.append(1)
            put(work, 1)
            work.after_commit(lambda: after.append("ran"))

        with pytest.raises(DatabaseUnavailableError, match="may or may not") as caught:
            through().run(unit)
        assert "unknown" == caught.value.context["commit_outcome"]
        assert [1] == runs
        assert [] == after
        until(lambda: count(db) == int(happened))

    def test_an_idempotent_unit_is_repeated(self, through, db: Database, *, happened: bool):
        upsert = text("INSERT INTO item (id, name) VALUES (1, 'a') ON CONFLICT (id) DO NOTHING")
        inserted: list[int] = []

        def unit(work: UnitOfWork) -> None:
            inserted.append(work.session.connection().execute(upsert).rowcount)

        through().run(unit, idempotent=True)
        assert 2 == len(inserted)
        assert 1 == count(db)

    def test_a_read_only_unit_has_no_outcome_to_wonder_about(self, through, *, happened: bool):
        assert through().run(pid, read_only=True) > 0

    def test_a_backend_killed_during_the_commit_is_unknown_too(self, db: Database, plain_url: str):
        with psycopg.connect(plain_url, autocommit=True) as other:
            other.execute(SUICIDE)
        try:
            with pytest.raises(DatabaseUnavailableError) as caught:
                db.run(lambda work: put(work, 1))
        finally:
            with psycopg.connect(plain_url, autocommit=True) as other:
                other.execute("DROP FUNCTION suicide CASCADE")
        assert "unknown" == caught.value.context["commit_outcome"]
        assert 0 == count(db)


SUICIDE = """
CREATE FUNCTION suicide() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER suicide AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION suicide();
"""
