"""The error tree: data as attributes, one stable code each, safe to send to another process."""

from __future__ import annotations

import inspect
import pickle

import pytest

from rootstream_db import errors
from rootstream_db.correlation import correlation, current_correlation_id
from rootstream_db.errors import (
    CommandError,
    ConfigurationError,
    NotFoundError,
    RootStreamError,
    Severity,
    TooManyAttemptsError,
    ValidationError,
    VersionConflictError,
)

TREE = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, RootStreamError)
]


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_a_class_says_what_it_is_for_in_its_name_its_code_and_its_docstring(kind):
    assert kind.__name__.endswith("Error")
    assert kind.__doc__
    assert kind.code == kind.code.lower()
    assert kind.severity in Severity


def test_no_two_classes_share_a_code():
    assert len(TREE) == len({kind.code for kind in TREE})


def test_builtin_bases_keep_callers_working_that_know_only_python():
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ValidationError, ValueError)
    assert issubclass(NotFoundError, LookupError)


@pytest.mark.parametrize(
    "error",
    [
        VersionConflictError("Stream/7", expected=3, actual=5),
        TooManyAttemptsError("wait", retry_after=30.0),
        CommandError("ffmpeg", exit_code=251, stderr="refused\n"),
        NotFoundError("user", "alice"),
    ],
)
def test_an_error_survives_the_way_to_another_process(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(error) is type(copy)
    assert str(error) == str(copy)
    assert error.__dict__ == copy.__dict__


def test_an_error_remembers_the_work_it_happened_in():
    with correlation("req-7"):
        error = NotFoundError("user", 1)
    assert "req-7" == error.correlation_id
    assert current_correlation_id() is None


def test_an_error_as_data_is_plain_and_complete():
    error = VersionConflictError("Stream/7", expected=3, actual=5)
    data = error.as_dict()
    assert "storage.version_conflict" == data["code"]
    assert {"aggregate": "Stream/7", "expected": 3, "actual": 5, "constraint": None} == data[
        "context"
    ]
    assert (Severity.LOW.value, False) == (data["severity"], data["retryable"])
