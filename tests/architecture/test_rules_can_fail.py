"""Each house rule finds what it is there to find, and leaves its permitted homes alone."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.architecture import rules

SERVICE = "rootstream_db/services/streams.py"

# (rule, a place it is for, code that breaks it, the line of the breach, a word of the advice)
BREACHES = [
    (rules.commits_have_two_homes, SERVICE, "x = 1\nwork.session.commit()", 2, "UnitOfWork"),
    (rules.commits_have_two_homes, SERVICE, "session.rollback()", 1, "UnitOfWork"),
    (
        rules.queries_live_in_repositories,
        SERVICE,
        "from sqlalchemy import select",
        1,
        "repository method",
    ),
    (
        rules.queries_live_in_repositories,
        SERVICE,
        "from sqlalchemy.dialects.postgresql import insert",
        1,
        "repository method",
    ),
    (
        rules.queries_live_in_repositories,
        SERVICE,
        "import sqlalchemy as sa\nsa.text('')",
        2,
        "text",
    ),
    (rules.queries_live_in_repositories, SERVICE, "c.exec_driver_sql('')", 1, "repository method"),
    (
        rules.queries_live_in_repositories,
        "rootstream_db/models/users.py",
        "from sqlalchemy import select, text",
        1,
        "select()",
    ),
    (rules.only_the_clock_asks_the_time, SERVICE, "datetime.now(UTC)", 1, "Clock"),
    (rules.only_the_clock_asks_the_time, SERVICE, "datetime.datetime.now(UTC)", 1, "Clock"),
    (rules.only_the_clock_asks_the_time, SERVICE, "time.time()", 1, "monotonic"),
    (rules.only_settings_read_the_environment, SERVICE, "os.environ['A']", 1, "setting"),
    (rules.only_settings_read_the_environment, SERVICE, "os.getenv('A')", 1, "setting"),
    (rules.only_settings_read_the_environment, SERVICE, "from os import environ", 1, "setting"),
    (rules.only_the_command_line_prints, SERVICE, "print(1)", 1, "log or return"),
    (rules.only_the_command_line_prints, SERVICE, "sys.stdout.write('')", 1, "log or return"),
    (rules.redis_commands_exist_in_6_2, SERVICE, "client.hexpire('k', 1, 'f')", 1, "6.2"),
    (rules.redis_commands_exist_in_6_2, SERVICE, "client.expire('k', 1, nx=True)", 1, "6.2"),
    (rules.functions_stay_short, SERVICE, "def long():\n" + "    pass\n" * 40, 1, "41 lines"),
    (rules.public_names_are_documented, SERVICE, "x = 1", 1, "module"),
    (rules.public_names_are_documented, SERVICE, '"""M."""\ndef f(): ...', 2, "f is public"),
    (
        rules.public_names_are_documented,
        SERVICE,
        '"""M."""\nclass A:\n    """A."""\n    def m(self): ...',
        4,
        "A.m is public",
    ),
    (rules.annotations_are_not_evaluated, SERVICE, '"""M."""\nx = 1', 1, "__future__"),
    (rules.exceptions_to_checks_have_reasons, SERVICE, "x = 1  # noqa: E501", 1, "because"),
    (rules.exceptions_to_checks_have_reasons, SERVICE, "x = 1  # type: ignore[x]", 1, "because"),
    (rules.modules_stay_short, SERVICE, "x = 1\n" * 401, 401, "split"),
    (rules.names_say_what_a_module_is_for, "rootstream_db/utils.py", "", 1, "utils"),
    (rules.names_say_what_a_module_is_for, "rootstream_db/common/x.py", "", 1, "common"),
    (
        rules.tests_use_real_servers,
        "tests/unit/test_x.py",
        "from unittest.mock import MagicMock",
        1,
        "servers",
    ),
    (
        rules.tests_use_real_servers,
        "tests/unit/test_x.py",
        "from unittest import mock\nmock.Mock()",
        2,
        "servers",
    ),
    (rules.tests_use_real_servers, "tests/unit/test_x.py", "import fakeredis", 1, "servers"),
    (rules.tests_poll_instead_of_sleeping, "tests/unit/test_x.py", "time.sleep(1)", 1, "poll"),
]

# (rule, a place, code that is right there)
PERMITTED = [
    (
        rules.tests_use_real_servers,
        "tests/fixtures/faults.py",
        "from unittest import mock\nmock.patch.object(connection, 'send')",
    ),
    (rules.commits_have_two_homes, "rootstream_db/database/engine.py", "session.commit()"),
    (rules.commits_have_two_homes, "rootstream_db/unit_of_work.py", "session.rollback()"),
    (
        rules.queries_live_in_repositories,
        "rootstream_db/repositories/users.py",
        "from sqlalchemy import select",
    ),
    (
        rules.queries_live_in_repositories,
        "rootstream_db/models/users.py",
        "from sqlalchemy import text",
    ),
    (rules.queries_live_in_repositories, SERVICE, "users.update(1)"),
    (rules.only_the_clock_asks_the_time, "rootstream_db/clock.py", "datetime.now(UTC)"),
    (rules.only_the_clock_asks_the_time, SERVICE, "time.monotonic()"),
    (
        rules.only_settings_read_the_environment,
        "rootstream_db/settings/sources.py",
        "os.environ['A']",
    ),
    (rules.only_the_command_line_prints, "rootstream_db/cli/output.py", "print(1)"),
    (rules.redis_commands_exist_in_6_2, SERVICE, "client.expire('k', 1)"),
    (
        rules.functions_stay_short,
        SERVICE,
        'def documented():\n    """' + "x\n" * 40 + '"""\n' + "    pass\n" * 39,
    ),
    (rules.public_names_are_documented, SERVICE, '"""M."""\ndef _f(): ...'),
    (
        rules.public_names_are_documented,
        SERVICE,
        '"""M."""\nclass A:\n    """A."""\n    def __len__(self): ...',
    ),
    (rules.annotations_are_not_evaluated, SERVICE, '"""Only a docstring."""'),
    (rules.exceptions_to_checks_have_reasons, SERVICE, "x = 1  # noqa: E501  # a long address"),
    (rules.exceptions_to_checks_have_reasons, SERVICE, "# A long address.\nx = 1  # noqa: E501"),
    (
        rules.tests_poll_instead_of_sleeping,
        "tests/unit/test_x.py",
        "while not ready():\n    time.sleep(0.01)",
    ),
    (
        rules.tests_poll_instead_of_sleeping,
        "tests/unit/test_x.py",
        "time.sleep(0.05)  # the work that is protected",
    ),
]


@pytest.mark.parametrize(
    ("rule", "path", "source", "line", "advice"),
    BREACHES,
    ids=[f"{case[0].__name__}-{index}" for index, case in enumerate(BREACHES)],
)
def test_a_breach_is_reported_with_its_line_and_advice(rule, path, source, line, advice):
    findings = list(rule(rules.Module(PurePosixPath(path), source)))

    assert 1 == len(findings)
    assert line == findings[0].line
    assert advice in findings[0].message


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    PERMITTED,
    ids=[f"{case[0].__name__}-{index}" for index, case in enumerate(PERMITTED)],
)
def test_what_is_permitted_is_left_alone(rule, path, source):
    assert [] == list(rule(rules.Module(PurePosixPath(path), source)))


def test_every_rule_is_shown_to_fail_here():
    every_rule = {
        *rules.RULES_OF_THE_PACKAGE,
        *rules.RULES_OF_ALL_PRODUCT_CODE,
        *rules.RULES_OF_EVERYTHING,
        *rules.RULES_OF_TESTS,
    }

    assert every_rule == {case[0] for case in BREACHES}
